//! Filters: one expression language, CEL, everywhere. Text is compiled once to a [`Filter`], which says of an
//! exchange with its reading whether it matches. Variables are the fields of `fedisniff.exchange/1`; [`fields`] lists
//! them. The `cel` crate parses; names, types and constants are then resolved here, so that a mistake is said at once
//! and with its place, and so that matching does not build values that the expression never looks at.
//!
//! # What is absent
//! A field may be unknown: an exchange that was never answered has no `response.status`. Matching is two-valued, as
//! people read a filter, not three-valued: **a comparison or test with something absent is false**, whatever the
//! operator, except that `x != y` is always the opposite of `x == y`, and `!(…)` the opposite of `(…)`. So every
//! exchange matches exactly one of `F` and `!(F)`, and hiding 4xx with `!(response.status >= 400)` keeps what was not
//! answered. `x == null`, `x != null` and `has(x)` ask for presence. A list that is absent is empty. A call or sum
//! with an absent or impossible part (`int("x")`, `1 / 0`, an index beyond the end) is itself absent.
//!
//! # Beyond standard CEL
//! - `request.headers["Name"]` ignores case; fields that occur several times are joined with `, `.
//! - A text compared with `started` is a time: `started >= "2026-11-23T07:27:00Z"`.
//! - `gaps`, `anomalies` and `lints` are lists of names; compared with a number they are their length.
//! - An object (`websocket`, `response`) used as a condition says whether it is there.
//! - A text that a field can never have (`kind == "inbx"`) is an error, with the nearest one that it can have.
//!
//! # Bounds
//! Text is limited to [`MAX_TEXT`] octets, its nesting and the length of operator chains before it is parsed (the
//! parser and every later step recurse), compiled patterns in size; patterns must be written out, not computed. One
//! evaluation may take [`MAX_STEPS`] steps; beyond that the exchange does not match. All patterns run in linear time.

mod compile;
mod eval;
mod fields;
#[cfg(test)]
mod tests;

use crate::activitypub::Reading;
use crate::frame::Timestamp;
use crate::http::Exchange;
use crate::view::Row;

pub use fields::{FieldInfo, fields};

/// The longest text that is compiled, in octets.
pub const MAX_TEXT: usize = 8 << 10;
/// Steps that one evaluation may take: nodes visited, and octets searched by 64.
pub const MAX_STEPS: u32 = 2_000_000;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    text: String,
    root: compile::Node,
    row_only: bool,
    needs_bodies: bool,
    plan: Plan,
}

/// Why a text is not a filter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} (at line {line}, column {column})")]
pub struct FilterError {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// What is wrong, and what to write instead where that is known.
    pub message: String,
}

/// What a [`Row`] leaves out or folds together and filters often ask for: a store keeps it beside the row.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RowKeys {
    /// `activity.actor`.
    pub actor: Option<Box<str>>,
    /// `activity.object`.
    pub object: Option<Box<str>>,
    /// `origin.host`.
    pub origin_host: Option<Box<str>>,
    /// `request.host`.
    pub request_host: Option<Box<str>>,
}

impl RowKeys {
    /// Those of an exchange with its reading.
    pub fn new(exchange: &Exchange, reading: &Reading) -> Self {
        let activity = reading.activity.as_ref();
        Self {
            actor: activity.and_then(|a| a.actor.clone()),
            object: activity.and_then(|a| a.object.clone()),
            origin_host: reading.origin.as_ref().and_then(|o| o.host.clone()),
            request_host: exchange.request.as_ref().and_then(|r| r.host.clone()),
        }
    }
}

/// A field that an index can answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Indexed {
    /// `activity.id`.
    ActivityId,
    /// `activity.actor`.
    Actor,
    /// `origin.host`.
    OriginHost,
    /// `request.host`.
    RequestHost,
    /// `activity.type`.
    ActivityType,
    /// `kind`.
    Kind,
}

/// What must hold of every exchange that matches, as far as indexes can use it. It is necessary, not sufficient:
/// what an index gives is still to be matched.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Plan {
    /// Each field has one of the values.
    pub any_of: Vec<(Indexed, Vec<Box<str>>)>,
    /// `response.status` lies in this range, both ends included.
    pub status: Option<(u16, u16)>,
    /// `started` is not before.
    pub from: Option<Timestamp>,
    /// `started` is before.
    pub to: Option<Timestamp>,
}

impl Filter {
    /// Compiles a text. White space alone matches everything.
    ///
    /// # Errors
    /// Not CEL, a name that no exchange has, types that cannot be compared, a condition that is not one, or a limit
    /// passed.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let root = compile::compile(text)?;
        let mut used = compile::Used::default();
        compile::used(&root, &mut used);
        let plan = compile::plan(&root);
        Ok(Self { text: text.to_owned(), row_only: used.row_only, needs_bodies: used.bodies, root, plan })
    }

    /// Whether an exchange matches. What is unknown does not match and is not an error.
    pub fn matches(&self, exchange: &Exchange, reading: &Reading) -> bool {
        eval::matches(&self.root, eval::Subject::Whole(exchange, reading))
    }

    /// The same from a row and its keys alone, which is much faster in a long list; `None` when the filter asks for
    /// more than they hold ([`Self::row_only`]).
    pub fn matches_row(&self, row: &Row, keys: &RowKeys) -> Option<bool> {
        self.row_only.then(|| eval::matches(&self.root, eval::Subject::Row(row, keys)))
    }

    /// True when [`Self::matches_row`] can answer.
    pub fn row_only(&self) -> bool {
        self.row_only
    }

    /// True when the kept bytes of bodies are looked at; without it they may be left empty.
    pub fn needs_bodies(&self) -> bool {
        self.needs_bodies
    }

    /// What indexes can use.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The text it was compiled from.
    pub fn text(&self) -> &str {
        &self.text
    }
}
