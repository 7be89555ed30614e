//! The API by HTTP/1.0 over `kubectl proxy`'s socket: one request per connection, whose end is the answer's.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Where the API answers.
pub struct Api {
    socket: PathBuf,
}

/// Where an object is.
///
/// # Errors
/// A kind that the tests do not use.
pub fn path(version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Result<String> {
    let plural = match kind {
        "Namespace" => "namespaces",
        "Node" => "nodes",
        "Pod" => "pods",
        "Service" => "services",
        "EndpointSlice" => "endpointslices",
        "NetworkPolicy" => "networkpolicies",
        other => bail!("{other} is of no use here"),
    };
    let group = if version.contains('/') { "apis" } else { "api" };
    let space = namespace.map_or(String::new(), |n| format!("/namespaces/{n}"));
    Ok(format!("/{group}/{version}{space}/{plural}/{name}"))
}

impl Api {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks; gives the status and what came with it.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<(u16, Value)> {
        let context = || format!("{method} {path}");
        let mut stream =
            UnixStream::connect(&self.socket).with_context(|| format!("reach {}", self.socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).with_context(context)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(context)?;
        let answer = String::from_utf8(answer).with_context(context)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(context)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(context)?;
        Ok((status, serde_json::from_str(body).unwrap_or_else(|_| json!(body))))
    }

    fn done(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.ask(method, path, kind, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status}: {}", message(&answer));
        }
        Ok(answer)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// It is not there.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.done("GET", path, "application/json", &Value::Null)
    }

    /// Makes an object, or makes it so; with its status. Gives its path.
    ///
    /// # Errors
    /// The API refuses, with its reason.
    pub fn apply(&self, object: &Value) -> Result<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let of = |name: &str| text(&object[name]).with_context(|| format!("no {name} in {object}"));
        let namespace = text(&object["metadata"]["namespace"]);
        let name = text(&object["metadata"]["name"]).with_context(|| format!("no name in {object}"))?;
        let path = path(&of("apiVersion")?, &of("kind")?, namespace.as_deref(), &name)?;
        // Not by server-side apply, which does not take all that the API takes (a port under two names).
        let (folder, _) = path.rsplit_once('/').context("a path")?;
        let folder = format!("{folder}?fieldValidation=Strict");
        let (status, answer) = self.ask("POST", &folder, "application/json", object)?;
        match status {
            200..300 => {}
            409 => self.merge(&path, object)?,
            _ => bail!("POST {path}: {status}: {}", message(&answer)),
        }
        if let Some(status) = object.get("status") {
            self.status(&path, status)?;
        }
        Ok(path)
    }

    /// Writes an object's status.
    ///
    /// # Errors
    /// The API refuses, with its reason.
    pub fn status(&self, path: &str, status: &Value) -> Result<()> {
        let body = json!({"status": status});
        self.done("PATCH", &format!("{path}/status"), "application/merge-patch+json", &body).map(drop)
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// The API refuses, with its reason.
    pub fn merge(&self, path: &str, change: &Value) -> Result<()> {
        self.done("PATCH", path, "application/merge-patch+json", change).map(drop)
    }

    /// Takes an object away, at once.
    ///
    /// # Errors
    /// It was not there, or the API refuses.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.done("DELETE", &format!("{path}?gracePeriodSeconds=0"), "application/json", &Value::Null)
            .map(drop)
    }
}

fn message(answer: &Value) -> String {
    answer["message"].as_str().map_or_else(|| answer.to_string(), str::to_owned)
}
