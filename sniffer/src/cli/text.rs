//! One exchange as one line for people: aligned, coloured, the sentence in the middle.

use std::collections::HashMap;

use sniffer::activitypub::{Digest, Language, Sentence, SignatureVerdict};
use sniffer::audit::{Finding, Outcome};
use sniffer::verdict::Word;
use sniffer::view::Row;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Writes lines, remembering which short host names are taken.
pub(super) struct Lines {
    colour: bool,
    japanese: bool,
    /// First label of a host to the host that may be written so; `None` when two hosts share it.
    short: HashMap<String, Option<String>>,
}

/// Short names that are remembered.
const NAMES: usize = 4_096;
pub(super) const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
pub(super) const RED: &str = "\x1b[31m";
pub(super) const YELLOW: &str = "\x1b[33m";
pub(super) const GREEN: &str = "\x1b[32m";
pub(super) const RESET: &str = "\x1b[0m";

impl Lines {
    pub(super) fn new(colour: bool, japanese: bool) -> Self {
        Self { colour, japanese, short: HashMap::new() }
    }

    /// `07:37:09.321  blocked by kube-router  fediverse/gts1 tried to reach mastodon.example (203.0.113.80:443/tcp)  1 packet`
    pub(super) fn finding(&self, finding: &Finding) -> String {
        let japanese = self.japanese;
        let time = finding.first.to_string();
        let (outcome, colour) = match (finding.outcome, japanese) {
            (Outcome::Leaked, false) => ("leaked", RED),
            (Outcome::Leaked, true) => ("流出", RED),
            (Outcome::Unknown, false) => ("unknown", YELLOW),
            (Outcome::Unknown, true) => ("不明", YELLOW),
            (Outcome::BlockedByKubeRouter, true) => ("kube-router が遮断", GREEN),
            (Outcome::BlockedByFedisniff, true) => ("fedisniff が遮断", GREEN),
            (blocked, false) => (blocked.name(), GREEN),
        };
        let destination = match finding.names.last() {
            Some(name) => format!("{} ({})", name.name, finding.destination),
            None => finding.destination.to_string(),
        };
        let pod = &finding.pod.name;
        let word = finding.verdict.word;
        let (sentence, packets) = if japanese {
            let sentence = format!("{pod} が {destination} への接続を試行");
            (
                sentence,
                format!(
                    "判定 {}、{} パケット",
                    if word == Word::Deny { "拒否" } else { "未定義" },
                    finding.packets
                ),
            )
        } else {
            let s = if finding.packets == 1 { "" } else { "s" };
            (format!("{pod} tried to reach {destination}"), format!("{word}, {} packet{s}", finding.packets))
        };
        let mut line = String::with_capacity(160);
        self.put(&mut line, DIM, time.get(11..23).unwrap_or(&time));
        line.push_str("  ");
        self.put(&mut line, colour, &fit(outcome, 22));
        line.push_str("  ");
        self.put(&mut line, BOLD, &clean(&sentence));
        line.push_str("  ");
        self.put(&mut line, DIM, &packets);
        line
    }

    /// `07:26:40.470  gts1 → gts2  Follow  202  13.6 ms  valid  alice@gts1… asks to follow …  POST /users/bob/inbox`
    pub(super) fn line(&mut self, row: &Row) -> String {
        let delivery = row.kind.as_ref() == "inbox-delivery";
        let sentence = self.sentence(row);
        let kind = row.activity.as_deref().filter(|_| delivery).unwrap_or(&row.kind);
        let between = format!("{} → {}", self.shorten(&row.from), self.shorten(&row.to));
        let time = row.started.to_string();
        let clock = time.get(11..23).unwrap_or(&time);
        let status = row.status.map_or_else(|| "–".to_owned(), |s| s.to_string());
        let status_colour = match row.status {
            None | Some(500..) => RED,
            Some(400..) => YELLOW,
            Some(_) => "",
        };
        let (signature, signature_colour) = signature(row);
        let mut line = String::with_capacity(200);
        self.put(&mut line, DIM, clock);
        line.push_str("  ");
        self.put(&mut line, "", &fit(&between, 19));
        line.push_str("  ");
        self.put(&mut line, if delivery { BOLD } else { "" }, &fit(kind, 14));
        line.push(' ');
        self.put(&mut line, status_colour, &format!("{status:>3}"));
        line.push_str("  ");
        self.put(&mut line, DIM, &format!("{:>8}", row.took_us.map_or_else(|| "–".to_owned(), duration)));
        line.push_str("  ");
        self.put(&mut line, signature_colour, &fit(signature, 9));
        line.push_str("  ");
        self.put(&mut line, if delivery { BOLD } else { "" }, &clean(&sentence));
        if let Some(reason) = &row.reason {
            line.push_str("  ");
            self.put(&mut line, RED, &clean(reason));
        }
        for (mark, colour) in marks(row) {
            line.push_str("  ");
            self.put(&mut line, colour, &mark);
        }
        line.push_str("  ");
        let request = format!(
            "{} {}",
            row.method.as_deref().unwrap_or("?"),
            shorten_middle(row.target.as_deref().unwrap_or("?"), 60)
        );
        self.put(&mut line, DIM, &clean(&request));
        line
    }

    /// The sentence with its hosts written as short as elsewhere in the line.
    fn sentence(&mut self, row: &Row) -> String {
        let slots = row.slots.iter().map(|(slot, value)| {
            let shown = match value.rsplit_once('@') {
                Some((name, host)) if !name.is_empty() && is_host(host) => {
                    format!("{name}@{}", self.shorten(host))
                }
                None if is_host(value) => self.shorten(value),
                _ => value.to_string(),
            };
            (slot.clone(), shown.into())
        });
        let slots = slots.collect();
        let language = if self.japanese { Language::Japanese } else { Language::English };
        Sentence { template: row.template.clone(), slots }.render_in(language)
    }

    fn put(&self, line: &mut String, colour: &str, text: &str) {
        if self.colour && !colour.is_empty() {
            line.push_str(colour);
            line.push_str(text);
            line.push_str(RESET);
        } else {
            line.push_str(text);
        }
    }

    /// The first label of a host, as long as only one host has it; addresses stay whole.
    fn shorten(&mut self, host: &str) -> String {
        let bare = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |p| p.0);
        let Some((label, _)) = bare.split_once('.').filter(|_| bare.parse::<std::net::IpAddr>().is_err())
        else {
            return clean(host);
        };
        // Whoever sends a new Host each time gets it written in full, and no memory.
        if self.short.len() >= NAMES && !self.short.contains_key(label) {
            return clean(host);
        }
        // What has been printed cannot be changed: later lines write both hosts in full.
        let taken = self.short.entry(label.to_owned()).or_insert_with(|| Some(bare.to_owned()));
        if taken.as_deref() == Some(bare) {
            clean(label)
        } else {
            *taken = None;
            clean(bare)
        }
    }
}

/// Looks like a host name: two labels or more, and nothing that only a path or a sentence has.
fn is_host(text: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.contains('.') && text.split('.').all(label)
}

fn signature(row: &Row) -> (&'static str, &'static str) {
    if row.digest == Digest::Mismatch {
        return ("body≠", RED);
    }
    match (row.signature, row.scheme) {
        (SignatureVerdict::Unsigned, _) => ("unsigned", DIM),
        (SignatureVerdict::Valid, _) => ("valid", GREEN),
        (SignatureVerdict::Invalid, _) => ("invalid", RED),
        (SignatureVerdict::KeyNotSeen, _) => ("no key", YELLOW),
        (SignatureVerdict::NotCheckable, Some(sniffer::activitypub::Scheme::Cavage)) => ("cavage", ""),
        (SignatureVerdict::NotCheckable, Some(sniffer::activitypub::Scheme::Rfc9421)) => ("9421", ""),
        (SignatureVerdict::NotCheckable, None) => ("?", DIM),
    }
}

fn marks(row: &Row) -> Vec<(String, &'static str)> {
    let mut marks = Vec::new();
    if row.gaps > 0 {
        marks.push((format!("{} gap{}", row.gaps, if row.gaps == 1 { "" } else { "s" }), YELLOW));
    }
    if row.lint_errors > 0 {
        marks.push((
            format!("{} lint error{}", row.lint_errors, if row.lint_errors == 1 { "" } else { "s" }),
            RED,
        ));
    }
    if row.websocket {
        marks.push(("websocket".to_owned(), ""));
    }
    marks
}

/// `387 µs`, `13.6 ms`, `2.0 s`.
pub(super) fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{:.1} ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// Control characters become `·`: what the wire says must not steer the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// Exactly `width` columns: padded, or cut with `…` at the end.
fn fit(text: &str, width: usize) -> String {
    let text = clean(text);
    let used = text.width();
    if used <= width {
        return text + &" ".repeat(width - used);
    }
    let mut out = String::new();
    let mut columns = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if columns + wide + 1 > width {
            break;
        }
        columns += wide;
        out.push(c);
    }
    out.push('…');
    out + &" ".repeat(width - columns - 1)
}

/// Paths keep their end, where ids are.
fn shorten_middle(target: &str, width: usize) -> String {
    let count = target.chars().count();
    if count <= width {
        return target.to_owned();
    }
    let kept: String = target.chars().skip(count - (width - 1)).collect();
    format!("…{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_figures_and_a_unit() {
        let cases =
            [(0, "0 µs"), (999, "999 µs"), (13_600, "13.6 ms"), (387_000, "387 ms"), (2_000_000, "2.0 s")];
        for (micros, want) in cases {
            assert_eq!(duration(micros), want);
        }
    }

    #[test]
    fn a_short_host_name_is_used_only_while_it_means_one_host() {
        let mut lines = Lines::new(false, false);
        assert_eq!(lines.shorten("gts1.fediverse.test"), "gts1");
        assert_eq!(lines.shorten("gts1.fediverse.test:443"), "gts1");
        assert_eq!(lines.shorten("gts1.example"), "gts1.example");
        assert_eq!(lines.shorten("gts1.fediverse.test"), "gts1.fediverse.test");
        assert_eq!(lines.shorten("10.42.0.21"), "10.42.0.21");
        assert_eq!(lines.shorten("10.42.0.21:8080"), "10.42.0.21:8080");
    }

    #[test]
    fn columns_are_exact_for_wide_characters_too() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("公開鍵の取得", 6).width(), 6);
        assert_eq!(fit("a\x1b[2Jb", 8), "a·[2Jb  ");
    }
}
