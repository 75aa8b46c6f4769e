//! `completions` and `man`, in real shells and as a real page.

use std::path::Path;
use std::process::Command;

use crate::harness::gateway::{binary, command};

/// The completions of a shell in a file of their own.
fn completions(shell: &str, folder: &Path) -> String {
    let output = command(&["completions", shell]);
    assert!(output.status.success());
    let path = folder.join(format!("completions.{shell}"));
    std::fs::write(&path, output.stdout).unwrap();
    path.display().to_string()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let script = completions("bash", folder.path());
    let complete = |words: &str, word: &str, previous: &str| {
        let set = format!("COMP_WORDS=({words}); COMP_CWORD={}", words.split(' ').count() - 1);
        let call = format!("_mailtrixy__gateway mailtrixy-gateway '{word}' {previous}");
        run("bash", &["-c", &format!("source {script}; {set}; {call}; echo ${{COMPREPLY[@]}}")])
    };
    assert_eq!(complete("mailtrixy-gateway che", "che", "mailtrixy-gateway"), "check\n");
    assert_eq!(complete("mailtrixy-gateway token in", "in", "token"), "inspect\n");
    assert_eq!(complete("mailtrixy-gateway run --up", "--up", "run"), "--upgrade\n");
}

#[test]
fn fish_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let script = completions("fish", folder.path());
    let home = format!("HOME={}", folder.path().display());
    let complete = |line: &str| {
        let ask = format!("source {script}; complete --do-complete '{line}'");
        run("env", &[&home, "fish", "--no-config", "-c", &ask])
    };
    assert!(complete("mailtrixy-gateway che").starts_with("check\t"));
    assert!(complete("mailtrixy-gateway run --up").starts_with("--upgrade\t"));
}

#[test]
fn zsh_takes_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    let script = completions("zsh", folder.path());
    run("zsh", &["-f", "-n", &script]);
    let begin = format!("autoload -U compinit; compinit -u -D -d {}/dump", folder.path().display());
    let defined = format!("{begin}; source {script}; whence -w _mailtrixy-gateway");
    assert_eq!(run("zsh", &["-f", "-c", &defined]), "_mailtrixy-gateway: function\n");
}

#[test]
fn the_manual_page_is_clean_and_has_every_command_with_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mailtrixy-gateway.1");
    std::fs::write(&path, command(&["man"]).stdout).unwrap();
    let page = run("groff", &["-ww", "-man", "-Tascii", "-P-cbou", "-rLL=200n", path.to_str().unwrap()]);
    let options = ["--upgrade", "--private-key", "--server"];
    for text in ["NAME", "mailtrixy-gateway run", "mailtrixy-gateway token mint", "EXIT STATUS"].iter().chain(&options)
    {
        assert!(page.contains(text), "{text} in {page}");
    }
    let help = String::from_utf8(command(&["--help"]).stdout).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for name in commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty()) {
        assert!(name == "help" || page.contains(&format!("mailtrixy-gateway {name}")), "{name} in {page}");
    }
}

#[test]
fn a_shell_that_nobody_knows_is_a_question_that_was_not_understood() {
    let output = binary().args(["completions", "dos"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
