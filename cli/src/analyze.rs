//! `outrigger analyze`: what is wrong in these objects. Exits 1 if anything is an error.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use pilot::analyze;
use pilot::source::diagnostics::Colour;

use crate::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  outrigger analyze\n  outrigger analyze -f ./mesh -o json")]
pub(crate) struct Flags {
    /// A folder of manifests, or one manifest; may be given more than once.
    #[arg(short = 'f', long = "filename", value_name = "DIR", default_value = ".")]
    files: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let report = analyze::manifests(&flags.files)?;
    match flags.output {
        Output::Table => {
            let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
            print!("{}", report.text(if plain { Colour::Plain } else { Colour::Ansi }));
        }
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&report)?),
    }
    Ok(ExitCode::from(report.exit_code()))
}
