//! What the servers and the proxy of a capture say that happened, from their own logs, in one small form: one line
//! per exchange and log. `import` makes the lines from the logs; the tests compare exchanges with them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One exchange as one log tells it. `None` is what the log does not say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Logged {
    /// Which log: `proxy`, `fed1`, `gts2` ...
    pub log: String,
    /// The method.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// The host that was asked.
    pub host: Option<String>,
    /// The server's status code.
    pub status: Option<u16>,
    /// Octets of the request's body, and their SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<(u64, String)>,
    /// Octets of the response's body as sent (content codings not removed), and their SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<(u64, String)>,
    /// Octets of the response's body with content codings removed, and their SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoded: Option<(u64, String)>,
}

/// Reads the logs of the capture `name` in `folder`: the proxy's access log, the Fedify pods' and GoToSocial's.
///
/// # Errors
/// A log that cannot be read or is not in the form that the captures' README describes.
pub fn import(folder: &Path, name: &str) -> Result<Vec<Logged>> {
    let mut all = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let file_name = file.file_name().to_string_lossy().into_owned();
        let Some(log) = file_name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        let text = || std::fs::read_to_string(file.path()).with_context(|| format!("read {file_name}"));
        if log == "access.jsonl" {
            for line in text()?.lines() {
                all.push(from_proxy(
                    &serde_json::from_str(line).with_context(|| format!("{file_name}: {line}"))?,
                ));
            }
        } else if let Some(server) = log.strip_suffix(".server.jsonl") {
            for line in text()?.lines() {
                let value = serde_json::from_str(line).with_context(|| format!("{file_name}: {line}"))?;
                all.push(from_server(server, &value));
            }
        } else if let Some(server) = log.strip_suffix(".log").filter(|s| s.starts_with("gts")) {
            all.extend(text()?.lines().filter_map(|line| from_gotosocial(server, line)));
        }
    }
    Ok(all)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// Traefik: `OriginStatus` is what the server answered; 0, 499 and 502 are the proxy's own words for no answer.
fn from_proxy(line: &Value) -> Logged {
    let status = line["OriginStatus"].as_u64().and_then(|s| u16::try_from(s).ok());
    Logged {
        log: "proxy".into(),
        method: text(line, "RequestMethod").unwrap_or_default(),
        target: text(line, "RequestPath").unwrap_or_default(),
        host: text(line, "RequestHost"),
        status: status.filter(|s| ![0, 499, 502].contains(s)),
        sent: None,
        answered: None,
        decoded: None,
    }
}

fn from_server(server: &str, line: &Value) -> Logged {
    let body = |length: &str, sha: &str| Some((line.get(length)?.as_u64()?, text(line, sha)?));
    Logged {
        log: server.into(),
        method: text(line, "method").unwrap_or_default(),
        target: text(line, "path").unwrap_or_default(),
        host: text(line, "host"),
        status: line["status"].as_u64().and_then(|s| u16::try_from(s).ok()),
        sent: body("req_body_len", "req_body_sha256"),
        answered: body("resp_body_len", "resp_body_sha256"),
        decoded: body("resp_decoded_len", "resp_decoded_sha256"),
    }
}

/// GoToSocial's line per request that it answered: `… method=GET statusCode=200 uri=/users/alice … clientIP=…`.
fn from_gotosocial(server: &str, line: &str) -> Option<Logged> {
    if !line.contains("func=server.Start.Logger") {
        return None;
    }
    let field = |key: &str| {
        let rest = line.split_once(&format!(" {key}="))?.1;
        let value = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?,
            None => rest.split(' ').next()?,
        };
        Some(value.to_owned())
    };
    Some(Logged {
        log: server.into(),
        method: field("method")?,
        target: field("uri")?,
        host: None,
        status: field("statusCode")?.parse().ok(),
        sent: None,
        answered: None,
        decoded: None,
    })
}
