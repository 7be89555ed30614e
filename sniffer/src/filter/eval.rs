//! Evaluation: a compiled node and a subject in, a value out. It borrows from both wherever it can, and never fails:
//! what is impossible is absent.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::compile::{Arithmetic, Comparison, Loop, Node, Op};
use super::{MAX_STEPS, RowKeys};
use crate::activitypub::Reading;
use crate::frame::Timestamp;
use crate::http::{Exchange, Headers};
use crate::view::Row;

/// Octets of a text that `+` may make; a longer one is absent.
const MAX_CONCATENATED: usize = 1 << 20;

/// What is matched.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Whole(&'a Exchange, &'a Reading),
    Row(&'a Row, &'a RowKeys),
}

/// A value while matching.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Absent,
    /// An object that is there.
    Present,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    /// Nanoseconds since 1970.
    Time(u64),
    List(Vec<Self>),
    Headers(&'a Headers),
}

/// Whether the root is true of the subject, within [`MAX_STEPS`].
pub(super) fn matches<'a>(root: &'a Node, subject: Subject<'a>) -> bool {
    let mut run = Run { subject, locals: Vec::new(), steps: MAX_STEPS };
    // An evaluation that ran out of steps gave some value on the way, which means nothing.
    run.truth(root) && run.steps > 0
}

struct Run<'a> {
    subject: Subject<'a>,
    locals: Vec<Value<'a>>,
    steps: u32,
}

impl<'a> Run<'a> {
    /// Takes `n` steps; false when they are used up.
    fn step(&mut self, n: usize) -> bool {
        self.steps = self.steps.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        self.steps > 0
    }

    fn truth(&mut self, node: &'a Node) -> bool {
        matches!(self.value(node), Value::Bool(true) | Value::Present)
    }

    /// The text of a node, paid for by its length.
    fn text(&mut self, node: &'a Node) -> Option<Cow<'a, str>> {
        match self.value(node) {
            Value::Text(text) if self.step(text.len() / 64) => Some(text),
            _ => None,
        }
    }

    fn two_texts(&mut self, a: &'a Node, b: &'a Node, test: fn(&str, &str) -> bool) -> Value<'a> {
        let (Some(a), Some(b)) = (self.text(a), self.text(b)) else { return Value::Bool(false) };
        Value::Bool(test(&a, &b))
    }

    fn value(&mut self, node: &'a Node) -> Value<'a> {
        if !self.step(1) {
            return Value::Absent;
        }
        match &node.op {
            Op::Null => Value::Absent,
            Op::Bool(b) => Value::Bool(*b),
            Op::Int(i) => Value::Int(*i),
            Op::Double(d) => Value::Double(*d),
            Op::Text(text) => Value::Text(Cow::Borrowed(text)),
            Op::Time(time) => Value::Time(*time),
            Op::List(items) => Value::List(items.iter().map(|i| self.value(i)).collect()),
            Op::Field(field) => {
                let value = field.get(self.subject);
                if let Value::Text(text) = &value {
                    self.step(text.len() / 64);
                }
                value
            }
            Op::Local(place) => {
                let value = self.locals.get(*place).cloned().unwrap_or(Value::Absent);
                if let Value::Text(Cow::Owned(text)) = &value {
                    self.step(text.len() / 64);
                }
                value
            }
            Op::Header(headers, name) => match (self.value(headers), self.text(name)) {
                (Value::Headers(headers), Some(name)) => self.header(headers, &name),
                _ => Value::Absent,
            },
            Op::Index(list, index) => match (self.value(list), self.value(index)) {
                (Value::List(mut list), Value::Int(index)) => match usize::try_from(index) {
                    Ok(index) if index < list.len() => list.swap_remove(index),
                    _ => Value::Absent,
                },
                _ => Value::Absent,
            },
            Op::Not(a) => Value::Bool(!self.truth(a)),
            Op::And(a, b) => Value::Bool(self.truth(a) && self.truth(b)),
            Op::Or(a, b) => Value::Bool(self.truth(a) || self.truth(b)),
            Op::If(condition, then, otherwise) => {
                if self.truth(condition) {
                    self.value(then)
                } else {
                    self.value(otherwise)
                }
            }
            Op::Compare(comparison, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Value::Bool(compare(*comparison, &a, &b))
            }
            Op::Present(a) => Value::Bool(!matches!(self.value(a), Value::Absent)),
            Op::In(item, list) => {
                let item = self.value(item);
                match self.value(list) {
                    Value::List(list) => {
                        self.step(list.len());
                        Value::Bool(list.iter().any(|other| equal(&item, other)))
                    }
                    _ => Value::Bool(false),
                }
            }
            Op::OneOf(item, sorted) => match self.value(item) {
                Value::Text(text) => Value::Bool(sorted.binary_search_by(|s| (**s).cmp(&*text)).is_ok()),
                _ => Value::Bool(false),
            },
            Op::HasHeader(name, headers) => match (self.text(name), self.value(headers)) {
                (Some(name), Value::Headers(headers)) => {
                    Value::Bool(!matches!(self.header(headers, &name), Value::Absent))
                }
                _ => Value::Bool(false),
            },
            Op::Arithmetic(arithmetic, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                if let (Value::Text(a), Value::Text(b)) = (&a, &b) {
                    let length = a.len().saturating_add(b.len());
                    if !self.step(length / 64) || length > MAX_CONCATENATED {
                        return Value::Absent;
                    }
                }
                calculate(*arithmetic, a, b)
            }
            Op::Negate(a) => match self.value(a) {
                Value::Int(a) => a.checked_neg().map_or(Value::Absent, Value::Int),
                Value::Double(a) => Value::Double(-a),
                _ => Value::Absent,
            },
            Op::Contains(a, b) => {
                self.two_texts(a, b, |a, b| memchr::memmem::find(a.as_bytes(), b.as_bytes()).is_some())
            }
            Op::Finds(a, finder) => {
                let Some(a) = self.text(a) else { return Value::Bool(false) };
                Value::Bool(finder.find(a.as_bytes()).is_some())
            }
            Op::StartsWith(a, b) => self.two_texts(a, b, |a, b| a.starts_with(b)),
            Op::EndsWith(a, b) => self.two_texts(a, b, |a, b| a.ends_with(b)),
            Op::Matches(a, pattern) => {
                let Some(a) = self.text(a) else { return Value::Bool(false) };
                // A pattern looks at each octet more slowly than a plain search does.
                Value::Bool(self.step(a.len() / 8) && pattern.is_match(&a))
            }
            Op::Size(a) => match self.value(a) {
                Value::Text(text) => int(text.chars().count()),
                Value::List(list) => int(list.len()),
                Value::Headers(headers) => int(names(headers).len()),
                _ => Value::Absent,
            },
            Op::Lower(a) => {
                self.text(a).map_or(Value::Absent, |a| Value::Text(Cow::Owned(a.to_ascii_lowercase())))
            }
            Op::Upper(a) => {
                self.text(a).map_or(Value::Absent, |a| Value::Text(Cow::Owned(a.to_ascii_uppercase())))
            }
            Op::ToText(a) => match self.value(a) {
                Value::Text(text) => Value::Text(text),
                Value::Bool(b) => Value::Text(Cow::Borrowed(if b { "true" } else { "false" })),
                Value::Int(i) => Value::Text(Cow::Owned(i.to_string())),
                Value::Double(d) => Value::Text(Cow::Owned(d.to_string())),
                Value::Time(t) => Value::Text(Cow::Owned(Timestamp(t).to_string())),
                _ => Value::Absent,
            },
            Op::ToInt(a) => match self.value(a) {
                Value::Int(i) => Value::Int(i),
                // Towards zero; what does not fit has no value.
                Value::Double(d) if d.abs() < 9.2e18 => Value::Int(d as i64),
                Value::Text(text) => text.parse().map_or(Value::Absent, Value::Int),
                Value::Time(t) => i64::try_from(t / 1_000_000_000).map_or(Value::Absent, Value::Int),
                _ => Value::Absent,
            },
            Op::ToDouble(a) => match self.value(a) {
                Value::Int(i) => Value::Double(i as f64),
                Value::Double(d) => Value::Double(d),
                Value::Text(text) => text.parse().map_or(Value::Absent, Value::Double),
                _ => Value::Absent,
            },
            Op::Loop { kind, range, condition, result } => {
                let items = match self.value(range) {
                    Value::List(items) => items,
                    Value::Headers(headers) => {
                        self.step(headers.len());
                        names(headers).into_iter().map(|n| Value::Text(Cow::Owned(n))).collect()
                    }
                    _ => Vec::new(),
                };
                self.each(*kind, items, condition.as_deref(), result.as_deref())
            }
        }
    }

    fn each(
        &mut self,
        kind: Loop,
        items: Vec<Value<'a>>,
        condition: Option<&'a Node>,
        result: Option<&'a Node>,
    ) -> Value<'a> {
        let mut found = 0_usize;
        let mut collected = Vec::new();
        for item in items {
            if !self.step(1) {
                return Value::Absent;
            }
            self.locals.push(item);
            let holds = condition.is_none_or(|c| self.truth(c));
            let stop = match kind {
                Loop::All => !holds,
                Loop::Exists => holds,
                Loop::ExistsOne => {
                    found = found.saturating_add(usize::from(holds));
                    found > 1
                }
                Loop::Collect => {
                    if holds && let Some(result) = result {
                        let value = self.value(result);
                        collected.push(value);
                    }
                    false
                }
            };
            self.locals.pop();
            if stop {
                return Value::Bool(kind == Loop::Exists);
            }
        }
        match kind {
            Loop::All => Value::Bool(true),
            Loop::Exists => Value::Bool(false),
            Loop::ExistsOne => Value::Bool(found == 1),
            Loop::Collect => Value::List(collected),
        }
    }

    /// The values of all fields of that name, joined; absent when there is none, or none that is known.
    fn header(&mut self, headers: &'a Headers, name: &str) -> Value<'a> {
        self.step(headers.len() / 4);
        let mut joined: Option<Cow<'a, str>> = None;
        for (n, v) in headers.iter() {
            if let (Some(n), Some(v)) = (n, v)
                && n.eq_ignore_ascii_case(name.as_bytes())
            {
                let v = String::from_utf8_lossy(v);
                joined = Some(match joined {
                    None => v,
                    Some(before) => Cow::Owned(format!("{before}, {v}")),
                });
            }
        }
        joined.map_or(Value::Absent, Value::Text)
    }
}

fn names(headers: &Headers) -> BTreeSet<String> {
    headers.iter().filter_map(|(n, _)| Some(String::from_utf8_lossy(n?).to_ascii_lowercase())).collect()
}

fn int(n: usize) -> Value<'static> {
    i64::try_from(n).map_or(Value::Absent, Value::Int)
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => order(a, b) == Some(Ordering::Equal),
    }
}

fn compare(comparison: Comparison, a: &Value<'_>, b: &Value<'_>) -> bool {
    match comparison {
        Comparison::Equal => equal(a, b),
        Comparison::NotEqual => !equal(a, b),
        Comparison::Less => order(a, b).is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => order(a, b).is_some_and(Ordering::is_le),
        Comparison::Greater => order(a, b).is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => order(a, b).is_some_and(Ordering::is_ge),
    }
}

fn calculate<'a>(arithmetic: Arithmetic, a: Value<'a>, b: Value<'a>) -> Value<'a> {
    let ints = |op: fn(i64, i64) -> Option<i64>, a, b| op(a, b).map_or(Value::Absent, Value::Int);
    let doubles = |a: f64, b: f64| {
        Value::Double(match arithmetic {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide => a / b,
            Arithmetic::Modulo => return Value::Absent,
        })
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => match arithmetic {
            Arithmetic::Add => ints(i64::checked_add, a, b),
            Arithmetic::Subtract => ints(i64::checked_sub, a, b),
            Arithmetic::Multiply => ints(i64::checked_mul, a, b),
            Arithmetic::Divide => ints(i64::checked_div, a, b),
            Arithmetic::Modulo => ints(i64::checked_rem, a, b),
        },
        (Value::Double(a), Value::Double(b)) => doubles(a, b),
        (Value::Int(a), Value::Double(b)) => doubles(a as f64, b),
        (Value::Double(a), Value::Int(b)) => doubles(a, b as f64),
        (Value::Text(a), Value::Text(b)) if arithmetic == Arithmetic::Add => {
            Value::Text(Cow::Owned([a, b].concat()))
        }
        _ => Value::Absent,
    }
}
