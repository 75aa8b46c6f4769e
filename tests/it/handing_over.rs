//! A new process takes the place of the old, and no client notices.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::harness::backend::{Backend, read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, binary, simple};
use crate::harness::token::{SECRET, token};
use crate::harness::{free_port, wait_for};
use crate::reloading::Load;

/// A configuration on ports that stay the same, and a folder for the socket.
struct Place {
    config: String,
    socket: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new(backend: std::net::SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("hand-over/socket");
        let config = format!("hand_over: {{socket: \"{}\"}}\n{}", socket.display(), simple(&[backend], "", CONTACTS));
        let config = config.replacen(":0\"", &format!(":{}\"", free_port()), 1);
        let config = config.replacen(":0\"", &format!(":{}\"", free_port()), 1);
        Self { config, socket, _folder: folder }
    }

    /// Starts a successor and tells `old` when it waits.
    async fn hand_over(&self, old: &Gateway) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.yaml"), &self.config).unwrap();
        let mut command = binary();
        command.current_dir(folder.path()).args(["run", "--upgrade"]);
        let told = async {
            wait_for("the successor to wait", || std::future::ready(self.socket.exists().then_some(()))).await;
            old.signal("QUIT");
        };
        tokio::join!(Gateway::spawn(command, folder), told).0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_hand_overs_in_a_row_under_load_cost_no_request() {
    let backend = Backend::start().await;
    let place = Place::new(backend.address);
    let mut gateway = Gateway::start(&place.config).await;
    let load = Load::start_again_and_again(&gateway, 4);
    for _ in 0..10 {
        let before = load.answered.load(Ordering::SeqCst);
        let successor = place.hand_over(&gateway).await;
        assert!(gateway.ended().await.success());
        assert_eq!((successor.address, successor.admin), (gateway.address, gateway.admin));
        gateway = successor;
        let more = || std::future::ready((load.answered.load(Ordering::SeqCst) > before + 20).then_some(()));
        wait_for("the successor to answer", more).await;
    }
    let (answered, failed) = load.end().await;
    assert_eq!(failed, 0, "of {answered}");
    assert_eq!(gateway.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_request_in_flight_is_finished_by_the_process_that_began_it() {
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, wait) = (Arc::clone(&began), Arc::clone(&go_on));
    let backend = scripted(move |mut stream| {
        let (begin, wait) = (Arc::clone(&begin), Arc::clone(&wait));
        async move {
            read_head(&mut stream).await;
            begin.notify_one();
            wait.notified().await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        }
    })
    .await;
    let place = Place::new(backend);
    let mut old = Gateway::start(&place.config).await;
    let mut connection = Connection::open(old.address).await;
    let request =
        format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"));
    connection.write(request.as_bytes()).await;
    began.notified().await;
    let successor = place.hand_over(&old).await;
    assert_eq!(successor.admin("/readyz").await.status, 200, "the admin listener has gone with the others");
    go_on.notify_one();
    assert_eq!(connection.read(request.as_bytes()).await.unwrap().text(), "done");
    assert!(old.ended().await.success());
}

#[tokio::test]
async fn without_a_successor_the_old_process_serves_on() {
    let backend = Backend::start().await;
    let place = Place::new(backend.address);
    let gateway = Gateway::start(&place.config).await;
    gateway.signal("QUIT");
    let is_told = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("serving on"));
    gateway.log_lines(1, is_told).await;
    assert_eq!(gateway.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200);
}

#[tokio::test]
async fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let backend = Backend::start().await;
    let place = Place::new(backend.address);
    let gateway = Gateway::start(&place.config).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), &place.config).unwrap();
    let mut command = binary();
    command.current_dir(folder.path()).args(["run", "--upgrade"]);
    let mut successor = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the successor to wait", || std::future::ready(place.socket.exists().then_some(()))).await;
    successor.kill().unwrap();
    successor.wait().unwrap();
    gateway.signal("QUIT");
    let is_told = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("serving on"));
    gateway.log_lines(1, is_told).await;
    assert_eq!(gateway.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200);
    std::fs::remove_file(&place.socket).unwrap();
    let successor = place.hand_over(&gateway).await;
    assert_eq!(successor.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200, "the next one is taken");
}

#[test]
fn upgrade_without_a_socket_says_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, simple(&["127.0.0.1:1".parse().unwrap()], "", CONTACTS)).unwrap();
    let output = binary().args(["run", "--upgrade", "-c", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("hand_over: {socket:"));
}

/// What `systemctl reload` runs with deploy/hand-over.conf, the files of `place` and those in `folder` in the place of its own.
fn reload_with_hand_over_conf(place: &Place, folder: &Path, old: &Gateway) -> Command {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/hand-over.conf");
    let unit = std::fs::read_to_string(unit).unwrap();
    let script = unit.split_once("/bin/sh -c '").unwrap().1.trim_end().strip_suffix('\'').unwrap();
    // As systemd reads it.
    let mut script = script.replace("\\\n", " ").replace("$$", "$");
    for (theirs, ours) in [
        ("/run/mailtrixy-gateway/hand-over.sock", place.socket.to_str().unwrap()),
        ("/usr/local/bin/mailtrixy-gateway", env!("CARGO_BIN_EXE_mailtrixy-gateway")),
        ("/etc/mailtrixy-gateway/gateway.yaml", folder.join("gateway.yaml").to_str().unwrap()),
    ] {
        assert!(script.contains(theirs), "{theirs}");
        script = script.replace(theirs, ours);
    }
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("MB_SIGNING_SECRET", SECRET).args(["-c", &script]).stdout(Stdio::null());
    command.env("MAINPID", old.pid().to_string()).env("NOTIFY_SOCKET", folder.join("notify"));
    command
}

#[tokio::test]
async fn a_reload_of_the_unit_with_hand_over_conf_hands_over() {
    let backend = Backend::start().await;
    let place = Place::new(backend.address);
    let mut old = Gateway::start(&place.config).await;
    let folder = tempfile::tempdir().unwrap();
    let notified = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let write = |config: &str| std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();

    write("nonsense: 1");
    let failed = reload_with_hand_over_conf(&place, folder.path(), &old).stderr(Stdio::null()).status().unwrap();
    assert_eq!(failed.code(), Some(1), "the new process does not start");
    assert_eq!(old.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200);

    write(&place.config);
    assert!(reload_with_hand_over_conf(&place, folder.path(), &old).status().unwrap().success());
    let mut told = [0; 256];
    let length = notified.recv(&mut told).unwrap();
    let told = String::from_utf8(told[..length].to_vec()).unwrap();
    let main_pid = told.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().to_owned();
    assert!(told.contains("READY=1"), "{told}");
    assert_ne!(main_pid, old.pid().to_string());
    assert!(old.ended().await.success());
    assert_eq!(old.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200, "the new process answers");
    assert!(Command::new("kill").arg(&main_pid).status().unwrap().success());
}
