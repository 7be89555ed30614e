//! Against tshark on the same files: no exchange that it finds is missing. There is nothing to explain: where we
//! differ (s14: we tell twelve statuses or say that they are unknown, it tells six) we tell more.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;

use crate::captures;

/// Requests and responses, each counted by what identifies it.
#[derive(Default, Debug)]
struct Found {
    requests: BTreeMap<(String, String), i64>,
    /// Status code to count; for HTTP/1 and h2 alike.
    responses: BTreeMap<u16, i64>,
}

fn tshark(name: &str) -> Found {
    let mut packed = Vec::new();
    for part in captures::parts(name) {
        std::fs::File::open(part).expect("open").read_to_end(&mut packed).expect("read");
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), zstd::decode_all(&packed[..]).expect("zstd")).expect("write");
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file.path()).args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    for decode in [
        "tcp.port==3000,http",
        "tcp.port==8080,http",
        "tcp.port==9000,http",
        "tcp.port==5000,http",
        "tcp.port==3002,http2",
    ] {
        command.args(["-d", decode]);
    }
    command.args([
        "-Y",
        "http.request or http.response or http2.headers",
        "-T",
        "fields",
        "-E",
        "aggregator=\t",
    ]);
    command.args(["-E", "separator=|"]);
    for field in [
        "http.request.method",
        "http.request.uri",
        "http.response.code",
        "http2.headers.method",
        "http2.headers.path",
        "http2.headers.status",
    ] {
        command.args(["-e", field]);
    }
    let out = command.output().expect("tshark is installed (`cargo xtask setup`)");
    assert!(out.status.success(), "tshark {name}: {}", String::from_utf8_lossy(&out.stderr));
    let mut found = Found::default();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        // A target may hold the separator; the first field and the last four never do.
        let fields: Vec<&str> = line.split('|').collect();
        let Some(last) = fields.len().checked_sub(4) else { continue };
        if last < 2 {
            continue;
        }
        let uri = fields[1..last].join("|");
        let values =
            |text: &str| text.split('\t').filter(|v| !v.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let h1 = values(fields[0]).into_iter().zip(values(&uri));
        let h2 = values(fields[last + 1]).into_iter().zip(values(fields[last + 2]));
        for request in h1.chain(h2) {
            *found.requests.entry(request).or_insert(0) += 1;
        }
        for status in values(fields[last]).into_iter().chain(values(fields[last + 3])) {
            // 1xx are interim: not exchanges of their own, except the switch of protocols.
            let status: u16 = status.parse().expect("a status code");
            if status >= 200 || status == 101 {
                *found.responses.entry(status).or_insert(0) += 1;
            }
        }
    }
    found
}

#[test]
fn no_exchange_that_tshark_finds_is_missing() {
    let mut wrong = Vec::new();
    let mut requests = 0;
    for name in captures::ALL {
        let theirs = tshark(name);
        let mut ours = Found::default();
        for told in captures::decode(name).0 {
            let (method, target, _, status) = captures::key_of(&told);
            if told.exchange.request.is_some() {
                *ours.requests.entry((method, target)).or_insert(0) += 1;
            }
            if let Some(status) = status {
                *ours.responses.entry(status).or_insert(0) += 1;
            }
        }
        requests += theirs.requests.values().sum::<i64>();
        let mut missing = Vec::new();
        for (request, count) in &theirs.requests {
            let have = ours.requests.get(request).copied().unwrap_or(0);
            if have < *count {
                missing.push(format!("{} {}: tshark {count}, we {have}", request.0, request.1));
            }
        }
        for (status, count) in &theirs.responses {
            let have = ours.responses.get(status).copied().unwrap_or(0);
            if have < *count {
                missing.push(format!("status {status}: tshark {count}, we {have}"));
            }
        }
        if !missing.is_empty() {
            wrong.push(format!("{name}:\n  {}", missing.join("\n  ")));
        }
    }
    assert!(requests > 1_000, "tshark found only {requests} requests: is it the right tshark?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
