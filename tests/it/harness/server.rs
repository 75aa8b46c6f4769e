//! A backend that is a process of its own, so that it can be killed like one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wait_for;

/// The variable that makes a server of the test [`a_server_until_it_is_killed`]: the address it is to listen on.
const ADDRESS: &str = "TEST_SERVER_ADDRESS";
/// How long it thinks about a request, so that there always are some that it has and has not answered.
const THINKS: Duration = Duration::from_millis(5);

/// A server that answers each request with 200 and the target it was asked for. It is killed when it is dropped, and with its parent.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Server {
    /// Starts one on a port of the system's choice.
    pub async fn start() -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one on an address.
    pub async fn start_on(address: SocketAddr) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "harness::server::a_server_until_it_is_killed", "--ignored", "--nocapture"])
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (bound, asked) = (Arc::new(Mutex::new(None)), Arc::<Mutex<BTreeMap<String, usize>>>::default());
        let (tell, count, output) = (Arc::clone(&bound), Arc::clone(&asked), process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listens on ") {
                    *tell.lock().unwrap() = Some(address.parse().unwrap());
                } else if let Some(target) = line.strip_prefix("asked for ") {
                    *count.lock().unwrap().entry(target.to_owned()).or_default() += 1;
                }
            }
        });
        let address = wait_for("the server", || std::future::ready(*bound.lock().unwrap())).await;
        Self { process, address, asked }
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Each target that it was asked for, and how often.
    pub fn asked(&self) -> BTreeMap<String, usize> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "the process of a Server"]
fn a_server_until_it_is_killed() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let listener = TcpListener::bind(address).unwrap();
    println!("listens on {}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    // Its parent holds the other end, whatever becomes of it.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// One connection's requests, one after the other.
#[expect(clippy::print_stdout, reason = "how it speaks to the test that started it")]
fn answer(mut stream: TcpStream) -> Option<()> {
    let name = stream.local_addr().ok()?.port();
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let target = line.split(' ').nth(1)?.to_owned();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        println!("asked for {target}");
        std::thread::sleep(THINKS);
        let head = format!("HTTP/1.1 200 OK\r\nX-Answered-By: {name}\r\nContent-Length: {}\r\n\r\n", target.len());
        stream.write_all(format!("{head}{target}").as_bytes()).ok()?;
    }
}
