//! `completions` and `man`: what a shell and a reader of manuals want to know of the commands.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{Failure, print};

pub(super) fn completions(mut command: Command, shell: Shell) -> Result<(), Failure> {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        // clap_complete 4.6 takes the hyphen of the program's name for the border of a command in one half of the script only.
        script = script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    }
    print(&script)
}

/// One page for all commands: each has a section with its options.
pub(super) fn man(command: Command) -> Result<(), Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let page = page(&command).map_err(|error| format!("cannot write the manual page: {error}"))?;
    print(&page)
}

fn page(command: &Command) -> std::io::Result<String> {
    let manual = Man::new(command.clone()).manual("Commands of mailtrixy-gateway");
    let mut page = vec![
        written(|w| manual.render_title(w))?,
        written(|w| manual.render_name_section(w))?,
        written(|w| manual.render_synopsis_section(w))?,
        ".SH COMMANDS\n".to_owned(),
    ];
    for command in command.get_subcommands() {
        add_command(command, &mut page)?;
    }
    page.push(END.to_owned());
    // Every part comes with the same definitions, of what an apostrophe is.
    let is_definition = |line: &&str| [".ie ", ".el "].iter().any(|word| line.starts_with(word));
    let (definitions, rest): (Vec<&str>, Vec<&str>) =
        page.iter().flat_map(|part| part.lines()).partition(is_definition);
    let lines = definitions.iter().take(2).chain(&rest);
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// A command as a part of the page; one that has commands of its own is those.
fn add_command(command: &Command, page: &mut Vec<String>) -> std::io::Result<()> {
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|command| add_command(command, page));
    }
    let manual = Man::new(command.clone());
    page.push(format!(".SS \"{}\"\n", command.get_bin_name().unwrap_or_else(|| command.get_name())));
    for part in [
        written(|w| manual.render_synopsis_section(w))?,
        written(|w| manual.render_description_section(w))?,
        written(|w| manual.render_options_section(w))?,
    ] {
        let paragraph = |line: &str| if line.starts_with(".SH") { ".PP\n".to_owned() } else { format!("{line}\n") };
        page.push(part.lines().map(paragraph).collect());
    }
    Ok(())
}

fn written(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> std::io::Result<String> {
    let mut part = Vec::new();
    render(&mut part)?;
    Ok(String::from_utf8_lossy(&part).into_owned())
}

/// What the last sections say.
const END: &str = "\
.SH \"EXIT STATUS\"
0 is yes, 1 is no, 2 is a question that was not understood.
.SH FILES
.TP
gateway.yaml
The configuration.
.B mailtrixy\\-gateway schema \\-\\-markdown
says which keys it has.
";
