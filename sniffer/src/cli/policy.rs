//! `fedisniff policy`: what the NetworkPolicies say, and what kube-router makes of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sniffer::cluster::{self, Read};
use sniffer::verdict::explain::{End, Explanation, Question};
use sniffer::verdict::{State, Word};

use super::text::{DIM, GREEN, RED, RESET, YELLOW};
use super::{Colour, Usage};

/// Ask what the NetworkPolicies say.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether one end may connect to another, by which rule or isolated by which policies.
    #[command(after_help = EXAMPLES)]
    Explain(Explain),
}

// Short lines: clap breaks longer ones on a narrow terminal, and a broken command cannot be copied.
const EXAMPLES: &str = "\
Examples:
  kubectl get netpol,po,ns,svc,endpointslices,no -A -o yaml > all.yaml
  fedisniff policy explain --cluster all.yaml --from x/a --to 203.0.113.9:443/TCP
  fedisniff policy explain --cluster all.yaml --from x/a --to y/service:80/TCP
  fedisniff policy explain --cluster all.yaml --from x/a --to '[2001:db8::9]/ICMP'
  fedisniff policy explain --cluster folder --from node:n1 --to x/a:http/TCP --json

Exit codes: 0 allowed; 3 not allowed (deny, or mixed: not at every destination),
or left open by the specification (undefined); 1 failed, or objects that the API
server would refuse; 2 usage.";

/// Where pods, services and policies come from.
#[derive(clap::Args)]
pub(super) struct ClusterFile {
    /// A file of Kubernetes objects as `kubectl get -A -o yaml` writes it (YAML or JSON, several documents, lists), a
    /// folder of such files, or - for standard input.
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
}

impl ClusterFile {
    /// Reads the objects; what the API server would refuse is an error.
    fn read(&self) -> Result<Read> {
        read(&self.cluster)
    }
}

/// The state of a cluster whose objects are in a file or folder; what the API server would refuse is an error.
pub(super) fn state(file: &Path) -> Result<State> {
    let read = read(file)?;
    for note in &read.cluster.notes {
        eprintln!("note: {note}");
    }
    State::new(read.cluster).context("compile the policies")
}

fn read(file: &Path) -> Result<Read> {
    let read = cluster::read(file).context("read the cluster's objects")?;
    if !read.problems.is_empty() {
        const SHOWN: usize = 20;
        let mut lines: Vec<String> = read.problems.iter().take(SHOWN).map(|p| format!("  {p}")).collect();
        if let Some(more) = read.problems.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more"));
        }
        let count = read.problems.len();
        bail!(
            "{count} thing{} that the API server would refuse:\n{}",
            if count == 1 { "" } else { "s" },
            lines.join("\n")
        );
    }
    Ok(read)
}

/// Say whether one end may connect to another, by which rule or isolated by which policies.
///
/// The answer is for the whole connection: the sender's egress and the receiver's ingress. A Service's address is followed
/// to its endpoints. Where kube-router does something else than the policies say, that is told with the reason.
#[derive(clap::Args)]
struct Explain {
    #[command(flatten)]
    cluster: ClusterFile,
    /// Who connects: NS/POD, node:NAME, or an address.
    #[arg(long, value_name = "FROM")]
    from: String,
    /// To where: IP:PORT/PROTO (an IPv6 address in brackets), NS/POD:PORT/PROTO, NS/SERVICE:PORT/PROTO or
    /// node:NAME:PORT/PROTO with TCP, UDP or SCTP; IP/ICMP, IP/GRE and so on for protocols without ports.
    #[arg(long, value_name = "TO")]
    to: String,
    /// The type of an ICMP message, when it is not an echo request.
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<u8>,
    /// Print the answer as one JSON object (schema fedisniff.explain/1).
    #[arg(long)]
    json: bool,
    /// When to colour.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Explain(explain) => run_explain(explain),
    }
}

fn run_explain(arguments: &Explain) -> Result<ExitCode> {
    let question = Question::parse(&arguments.from, &arguments.to)
        .map_err(|error| Usage(error.to_string()))?
        .with_icmp_type(arguments.icmp_type);
    let read = arguments.cluster.read()?;
    for note in &read.cluster.notes {
        eprintln!("note: {note}");
    }
    let state = State::new(read.cluster).context("compile the policies")?;
    let explanation = state.explain(&question).map_err(|error| Usage(error.to_string()))?;
    let mut out = io::stdout().lock();
    let written = if arguments.json {
        serde_json::to_writer(&mut out, &explanation).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        out.write_all(people(&explanation, arguments.color.wanted()).as_bytes())
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("write to standard output")?,
    }
    Ok(if explanation.verdict == Word::Allow { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// The answer for people.
fn people(explanation: &Explanation, colour: bool) -> String {
    let paint = |style: &str, text: &str| {
        if colour && !style.is_empty() { format!("{style}{text}{RESET}") } else { text.to_owned() }
    };
    let word = |word: Word| {
        let style = match word {
            Word::Allow => GREEN,
            Word::Deny => RED,
            Word::Undefined | Word::Mixed => YELLOW,
        };
        paint(style, &format!("{:<9}", word.name()))
    };
    let sentence = match explanation.verdict {
        Word::Allow => "the policies let it connect",
        Word::Deny => "the policies do not let it connect",
        Word::Undefined => "the specification leaves it open",
        Word::Mixed => "it depends on which destination is chosen",
    };
    let mut out =
        format!("{}  {} → {}: {sentence}\n", word(explanation.verdict), explanation.from, explanation.to);
    let mut row = |name: &str, value: &str| {
        out.push_str(&format!("  {} {value}\n", paint(DIM, &format!("{name:<11}"))));
    };
    // Where nothing is translated the destination is what was asked.
    if explanation.destinations.len() != 1
        || explanation.destinations.first().is_some_and(|d| !explanation.to.starts_with(d.as_str()))
    {
        let all = explanation.destinations.join(", ");
        row("arrives at", if all.is_empty() { "nothing: the Service has no ready endpoint" } else { &all });
    }
    for (name, end) in [("egress", &explanation.egress), ("ingress", &explanation.ingress)] {
        row(name, &format!("{}  {}", word(end.verdict), told(end)));
    }
    if let Some(before) = explanation.egress.pre_nat.filter(|before| *before != explanation.egress.verdict) {
        row("before DNAT", &format!("{}  whoever looks at the address as it was sent", word(before)));
    }
    let style = match explanation.kube_router.verdict {
        "allow" => GREEN,
        "deny" => RED,
        _ => YELLOW,
    };
    let predicted = paint(style, &format!("{:<9}", explanation.kube_router.verdict));
    let reason = explanation.kube_router.reason.as_deref().unwrap_or("as the policies say");
    row("kube-router", &format!("{predicted}  {reason}"));
    for note in &explanation.notes {
        row("note", note);
    }
    out
}

fn told(end: &End) -> String {
    let mut told = end.reason.clone();
    if !end.isolated_by.is_empty() {
        told.push_str(&format!(" (isolated by {})", end.isolated_by.join(", ")));
    }
    told
}
