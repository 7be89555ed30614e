//! Policies of a large cluster: from the files to the first answer. Reading, compiling and answering together, so that the
//! time for compiling alone is below what is shown; as JSON the reading is small.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::measure::{Series, command, measured};
use super::{Bench, report};

const PODS: usize = 1_000;
const POLICIES: usize = 50;
const NAMESPACES: usize = 10;

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let objects = objects();
    let json = bench.folder.join("policies.json");
    std::fs::write(&json, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
        .with_context(|| format!("write {}", json.display()))?;
    // One object a document, in block style, as people and kubectl write it.
    let yaml = bench.folder.join("policies.yaml");
    let mut text = String::new();
    for object in &objects {
        writeln!(text, "---")?;
        block(&mut text, object, 0, false)?;
    }
    std::fs::write(&yaml, text).with_context(|| format!("write {}", yaml.display()))?;
    let mut rows = Vec::new();
    for (name, file) in [("JSON", &json), ("YAML", &yaml)] {
        let size = std::fs::metadata(file)?.len() as f64 / 1e6;
        let (mut wall, mut memory) = (Series::default(), Series::default());
        for _ in 0..bench.runs.max(3) {
            let finished = measured(&ask(&bench.fedisniff, file))?;
            wall.push(finished.cost.wall_s * 1e3);
            memory.push(finished.cost.rss_mib);
        }
        rows.push(vec![format!("{name}, {size:.1} MB"), wall.show(), memory.show()]);
    }
    Ok(format!(
        "## Policies\n\n`cargo xtask bench policy`: {PODS} pods in {NAMESPACES} namespaces, {POLICIES} policies (selectors, blocks \
         with excepts, named ports, both sides), read, compiled, and asked about once.\n\n{}",
        report::table(&["objects as", "wall ms: median (min..max)", "peak MiB"], &rows)
    ))
}

fn ask(program: &Path, file: &Path) -> Vec<std::ffi::OsString> {
    let file = file.display().to_string();
    let arguments = [
        "policy",
        "explain",
        "--json",
        "--cluster",
        &file,
        "--from",
        "ns0/pod0",
        "--to",
        "203.0.113.9:443/TCP",
    ];
    command(program, &arguments)
}

fn objects() -> Vec<Value> {
    let mut out = Vec::new();
    for i in 0..NAMESPACES {
        let name = format!("ns{i}");
        let labels = json!({"ns": name, "tier": format!("t{}", i % 3)});
        out.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        );
    }
    for i in 0..PODS {
        let labels = json!({"app": format!("app{}", i % 20), "role": format!("r{}", i % 7)});
        let ports = json!([
            {"name": "http", "containerPort": 8000 + i % 5, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9100, "protocol": "TCP"},
        ]);
        let ips = json!([
            {"ip": format!("10.42.{}.{}", i / 250, i % 250 + 2)}, {"ip": format!("fd42::{i:x}")},
        ]);
        out.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod{i}"), "namespace": format!("ns{}", i % NAMESPACES), "labels": labels},
            "spec": {"nodeName": format!("n{}", i / 250), "containers": [{"name": "c", "image": "example", "ports": ports}]},
            "status": {"phase": "Running", "podIPs": ips},
        }));
    }
    for i in 0..POLICIES {
        let selector = json!({"matchLabels": {"role": format!("r{}", i % 7)}});
        let spec = json!({
            "podSelector": if i % 5 == 0 { json!({}) } else { selector },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [{"namespaceSelector": {"matchLabels": {"tier": format!("t{}", i % 3)}}}], "ports": [{"port": "http"}]},
                {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
            ],
            "egress": [
                {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": format!("app{}", i % 20)}}}],
                 "ports": [{"port": "http"}, {"port": 9100}]},
                {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", format!("198.51.{i}.0/24")]}}],
                 "ports": [{"port": 443}, {"port": 53, "protocol": "UDP"}]},
            ],
        });
        out.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{i}"), "namespace": format!("ns{}", i % NAMESPACES)}, "spec": spec,
        }));
    }
    out
}

/// A value in block style, as kubectl writes it.
fn block(out: &mut String, value: &Value, indent: usize, in_list: bool) -> Result<()> {
    let pad = |first: bool| if first && in_list { String::new() } else { " ".repeat(indent) };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (i, (key, value)) in map.iter().enumerate() {
                write!(out, "{}{key}:", pad(i == 0))?;
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        block(out, value, indent + 2, false)?;
                    }
                    Value::Array(list) if !list.is_empty() => {
                        out.push('\n');
                        for item in list {
                            write!(out, "{}- ", " ".repeat(indent))?;
                            block(out, item, indent + 2, true)?;
                        }
                    }
                    plain => writeln!(out, " {plain}")?,
                }
            }
        }
        plain => writeln!(out, "{plain}")?,
    }
    Ok(())
}
