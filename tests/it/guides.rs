//! docs/clients.md and docs/operations.md: the programs run, and what is named exists.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use mailtrixy_gateway::demo;
use mailtrixy_gateway::explain::reasons::Reason;
use mailtrixy_gateway::telemetry::metrics::FAMILIES;

use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;

fn guide(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The program of docs/clients.md in a language, in a file to run.
fn program(language: &str, ending: &str, folder: &Path) -> String {
    let guide = guide("clients.md");
    let (_, rest) = guide.split_once(&format!("```{language}\n")).unwrap();
    let path = folder.join(format!("client.{ending}"));
    std::fs::write(&path, rest.split_once("```").unwrap().0).unwrap();
    path.display().to_string()
}

/// A gateway with the sample contacts behind it, of which two may be asked for in a second.
async fn gateway() -> Gateway {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    demo::serve(vec![demo::Backend { name: "contacts", listener }]).unwrap();
    let routes = CONTACTS.replace("limit: none", "limit: contacts, pagination: {sort_by: [created_at]}");
    Gateway::start(&simple(&[address], "contacts: {requests: 2, per: 1s}", &routes)).await
}

async fn run(gateway: &Gateway, program: &str, arguments: &[String], token: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    command.args(arguments).env("API", format!("http://{}/api/v1", gateway.address)).env("TOKEN", token);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
    let Output { status, stdout, stderr } = ran;
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_of_the_client_guide_read_every_page_wait_where_they_are_told_to_and_tell_errors_apart() {
    let gateway = gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let refused = "gateway_refusals_total{code=\"RATE_LIMITED\",reason=\"limit\",route=\"contacts\"}";
    for (interpreter, language, ending) in
        [("bash", "sh", "sh"), ("node", "js", "mjs"), ("php", "php", "php"), ("python3", "python", "py")]
    {
        let mut arguments = vec![program(language, ending, folder.path())];
        if interpreter == "bash" {
            arguments.insert(0, "-eu".to_owned());
        }
        // A workspace each, so that none waits for the one before it.
        let token = token(interpreter, "contacts");
        let before = gateway.metric(refused).await;
        let (status, output, errors) = run(&gateway, interpreter, &arguments, &token).await;
        assert_eq!(output, "Ada Lovelace\nGrace Hopper\nMargaret Hamilton\n", "{interpreter}: {errors}");
        assert_eq!(status, Some(0), "{interpreter}");
        assert!(gateway.metric(refused).await > before, "{interpreter} was never told to wait");
        let (status, output, errors) = run(&gateway, interpreter, &arguments, "mb_wrong").await;
        assert_eq!((status, output.as_str()), (Some(1), ""), "{interpreter}: {errors}");
        assert!(errors.contains("UNAUTHENTICATED"), "{interpreter}: {errors}");
    }
}

/// What stands between two marks, everywhere in a text.
fn between<'t>(text: &'t str, from: &str, to: char) -> Vec<&'t str> {
    text.split(from).skip(1).filter_map(|rest| rest.split_once(to).map(|(found, _)| found)).collect()
}

#[test]
fn what_the_operations_guide_names_exists() {
    let guide = guide("operations.md");
    let reasons = between(&guide, "reason `", '`');
    assert!(reasons.len() > 10, "{reasons:?}");
    for reason in reasons {
        assert!(Reason::named(reason).is_some(), "no refusal has the reason {reason}");
    }
    for metric in between(&guide, "`gateway_", '`') {
        let name = format!("gateway_{}", metric.split(['{', ' ']).next().unwrap());
        assert!(FAMILIES.iter().any(|(family, _, _)| *family == name), "there is no metric {name}");
    }
}
