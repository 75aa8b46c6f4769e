//! gateway.yaml in an editor: the language server that editors run for YAML completes, explains and marks with the shipped schema.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::tools::tool;

/// A language server with one file open in it.
struct Editor {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    told: VecDeque<Value>,
    uri: String,
    version: u64,
    asked: u64,
}

impl Editor {
    /// Opens a text as `gateway.yaml` of the repository, so that the path to the schema in its first line holds.
    fn open(text: &str) -> Self {
        let server = tool("node/node_modules/yaml-language-server/bin/yaml-language-server");
        let mut command = Command::new("node");
        command.arg(server).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("node is missing: tests/run installs it");
        let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let root = format!("file://{}", env!("CARGO_MANIFEST_DIR"));
        let uri = format!("{root}/gateway.yaml");
        let mut editor = Self { process, to, from, told: VecDeque::new(), uri, version: 1, asked: 0 };
        let capabilities =
            json!({"textDocument": {"publishDiagnostics": {}, "hover": {"contentFormat": ["markdown"]}}});
        editor.ask("initialize", json!({"processId": null, "rootUri": root, "capabilities": capabilities}));
        editor.tell("initialized", json!({}));
        // The catalogue of schemas for other files is on the network.
        let yaml = json!({"validate": true, "hover": true, "completion": true, "schemaStore": {"enable": false}});
        editor.tell("workspace/didChangeConfiguration", json!({"settings": {"yaml": yaml}}));
        let document = json!({"uri": editor.uri, "languageId": "yaml", "version": 1, "text": text});
        editor.tell("textDocument/didOpen", json!({ "textDocument": document }));
        editor
    }

    /// Types another text.
    fn change(&mut self, text: &str) {
        self.version += 1;
        let document = json!({"uri": self.uri, "version": self.version});
        self.tell("textDocument/didChange", json!({"textDocument": document, "contentChanges": [{"text": text}]}));
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.to.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let message = self.read();
            if message["id"] == id && message.get("method").is_none() {
                return message["result"].clone();
            }
            self.told.push_back(message);
        }
    }

    /// The next message. A question of the server is answered with nothing, so that it keeps the settings it was told.
    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the language server has ended");
            match line.trim_end().strip_prefix("Content-Length: ") {
                Some(number) => length = number.parse().unwrap(),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut text = vec![0; length];
        self.from.read_exact(&mut text).unwrap();
        let message: Value = serde_json::from_slice(&text).unwrap();
        if message.get("method").is_some() && message.get("id").is_some() {
            self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": null}));
        }
        message
    }

    /// What is marked in the text as it is now.
    fn marks(&mut self) -> Vec<String> {
        loop {
            let message = self.told.pop_front().unwrap_or_else(|| self.read());
            let params = &message["params"];
            let is_current = params.get("version").is_none_or(|version| *version == self.version);
            if message["method"] == "textDocument/publishDiagnostics" && is_current {
                let marks = params["diagnostics"].as_array().unwrap().iter();
                return marks.map(|mark| mark["message"].as_str().unwrap().to_owned()).collect();
            }
        }
    }

    fn at(&self, line: u64, character: u64) -> Value {
        json!({"textDocument": {"uri": self.uri}, "position": {"line": line, "character": character}})
    }

    /// What is shown under the mouse.
    fn hover(&mut self, line: u64, character: u64) -> String {
        let position = self.at(line, character);
        self.ask("textDocument/hover", position)["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// What is proposed.
    fn complete(&mut self, line: u64, character: u64) -> Vec<String> {
        let position = self.at(line, character);
        let answer = self.ask("textDocument/completion", position);
        answer["items"].as_array().unwrap().iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const WITH_VARIABLES: &str = "\
# yaml-language-server: $schema=deploy/gateway.schema.json
version: 1
threads: ${THREADS}
listeners: [{address: \"0.0.0.0:${PORT:-8080}\"}]
request: {in_flight: \"${IN_FLIGHT}\", body_timeout: \"${SECONDS}s\"}
limits:
  general:
    requests: 60
    per: 1m
    on_store_failure: local
    
routes:
  one: {path: /one, access: public, limit: none, upstream: main}
";

#[test]
fn an_editor_marks_what_is_wrong_and_nothing_else() {
    let repositorys = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml")).unwrap();
    let broken = WITH_VARIABLES
        .replace("requests: 60", "requests: many")
        .replace("access: public", "acess: public")
        .replace("failure: local", "failure: lokal");
    let mut editor = Editor::open(&broken);
    let marks = editor.marks();
    for expected in [
        "Incorrect type. Expected \"integer\".",
        "Property acess is not allowed.",
        "Missing property \"scope\".",
        "Value is not accepted. Valid values: \"local\", \"allow\", \"deny\".",
    ] {
        assert!(marks.iter().any(|mark| mark == expected), "{expected} in {marks:?}");
    }
    for fine in [WITH_VARIABLES, &repositorys] {
        editor.change(fine);
        assert_eq!(editor.marks(), [""; 0]);
    }
}

#[test]
fn an_editor_explains_a_key_and_proposes_what_may_stand_there() {
    let mut editor = Editor::open(WITH_VARIABLES);
    assert_eq!(editor.marks(), [""; 0]);
    let on_store_failure = editor.hover(9, 8);
    assert!(on_store_failure.contains("What happens when the store cannot decide."), "{on_store_failure}");
    assert!(on_store_failure.contains("* `deny`: Everything is refused with 503."), "{on_store_failure}");
    assert!(editor.hover(2, 3).contains("Worker threads"), "also with a variable for a value");
    assert_eq!(editor.complete(9, 22), ["local", "allow", "deny"]);
    let keys = editor.complete(10, 4);
    for key in ["by", "algorithm", "mode"] {
        assert!(keys.iter().any(|proposed| proposed == key), "{key} in {keys:?}");
    }
}
