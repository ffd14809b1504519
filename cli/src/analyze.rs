//! `outrigger analyze`: what is wrong in these objects. Exits 1 if anything is an error.

use std::io::IsTerminal;
use std::process::ExitCode;

use pilot::analyze;
use pilot::source::diagnostics::Colour;

use crate::Output;
use crate::objects::Objects;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  outrigger analyze -f ./mesh -o json\n  outrigger analyze -n shop")]
pub(crate) struct Flags {
    #[command(flatten)]
    objects: Objects,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut report = analyze::report(&flags.objects.observed()?);
    if let Some(namespace) = &flags.objects.namespace {
        // What is cluster-wide concerns every namespace.
        let here = |of: &str| of.is_empty() || of == namespace;
        report.objects.retain(|entry| here(&entry.object.namespace));
        report.problems.retain(|problem| here(&problem.object.namespace));
    }
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
