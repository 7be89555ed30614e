//! From text to a checked tree: the `cel` crate parses, and every name, type and constant is resolved here, once. A
//! tree that comes out is of bounded depth and gives a condition; what can be wrong with it is said with its place.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use memchr::memmem::Finder;

use super::fields::{self, Field, Type};
use super::{FilterError, Indexed, MAX_TEXT, Plan};
use crate::frame::Timestamp;

/// Brackets that may be open at once.
const MAX_NESTING: usize = 24;
/// Operators in a row without a bracket, a comma, `&&` or `||` between them (which the parser balances).
const MAX_CHAIN: usize = 32;
/// Octets that a compiled pattern may take.
const MAX_PATTERN: usize = 1 << 20;

/// A part of a compiled filter.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    ty: Type,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loop {
    All,
    Exists,
    ExistsOne,
    /// `filter` and `map`.
    Collect,
}

#[derive(Debug)]
pub(super) enum Op {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    Time(u64),
    List(Vec<Node>),
    Field(&'static Field),
    /// The n-th open loop's variable.
    Local(usize),
    /// Headers, name.
    Header(Box<Node>, Box<Node>),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Present(Box<Node>),
    /// Item, list.
    In(Box<Node>, Box<Node>),
    /// A text in a list of constants, which is sorted.
    OneOf(Box<Node>, Box<[Box<str>]>),
    /// Name, headers.
    HasHeader(Box<Node>, Box<Node>),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Contains(Box<Node>, Box<Node>),
    /// `Contains` with a constant.
    Finds(Box<Node>, Box<Finder<'static>>),
    StartsWith(Box<Node>, Box<Node>),
    EndsWith(Box<Node>, Box<Node>),
    Matches(Box<Node>, Box<regex::Regex>),
    Size(Box<Node>),
    Lower(Box<Node>),
    Upper(Box<Node>),
    ToText(Box<Node>),
    ToInt(Box<Node>),
    ToDouble(Box<Node>),
    Loop {
        kind: Loop,
        range: Box<Node>,
        condition: Option<Box<Node>>,
        result: Option<Box<Node>>,
    },
}

/// Compiles a text to a condition.
pub(super) fn compile(text: &str) -> Result<Node, FilterError> {
    check_limits(text)?;
    if text.trim().is_empty() {
        return Ok(Node { op: Op::Bool(true), ty: Type::Bool });
    }
    let (tree, source) = parse(text)?;
    let mut compiler = Compiler { text, source, locals: Vec::new() };
    compiler.condition(&tree)
}

/// An error at an octet of the text.
fn error_at(text: &str, offset: usize, message: impl Into<String>) -> FilterError {
    let (mut line, mut column) = (1_usize, 1_usize);
    for (_, c) in text.char_indices().take_while(|(at, _)| *at < offset) {
        if c == '\n' {
            line = line.saturating_add(1);
            column = 1;
        } else {
            column = column.saturating_add(1);
        }
    }
    FilterError { line, column, message: message.into() }
}

/// Refuses what would make the parser, or a later step, recurse too deep. Counts brackets and operators outside of
/// quoted texts and comments; where quoting is broken it may count too much, and the parser would refuse it anyway.
fn check_limits(text: &str) -> Result<(), FilterError> {
    if text.len() > MAX_TEXT {
        let message = format!("the filter is too long: {} octets, at most {MAX_TEXT}", text.len());
        return Err(FilterError { line: 1, column: 1, message });
    }
    let mut chars = text.char_indices().peekable();
    let (mut depth, mut chain) = (0_usize, 0_usize);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' | '\'' => {
                while let Some((_, inner)) = chars.next() {
                    if inner == '\\' {
                        chars.next();
                    } else if inner == c {
                        break;
                    }
                }
            }
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '&' | '|' | ',' => chain = 0,
            '(' | '[' | '{' => {
                depth = depth.saturating_add(1);
                if depth > MAX_NESTING {
                    return Err(error_at(
                        text,
                        at,
                        format!("more than {MAX_NESTING} brackets are open here"),
                    ));
                }
                chain = if c == '[' { chain.saturating_add(1) } else { 0 };
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                // What was before the bracket goes on after it: a.b(c).d(e) is one chain.
                chain = chain.saturating_add(1);
            }
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '?' | '.' => {
                chain = chain.saturating_add(1);
            }
            _ => {}
        }
        if chain > MAX_CHAIN {
            return Err(error_at(
                text,
                at,
                format!(
                    "more than {MAX_CHAIN} operators follow one another here; join conditions with && or ||"
                ),
            ));
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), FilterError> {
    let errors = match cel::parser::Parser::new().parse_with_source_info(text) {
        Ok(parsed) => return Ok(parsed),
        Err(errors) => errors,
    };
    let Some(first) = errors.errors.first() else {
        return Err(FilterError { line: 1, column: 1, message: "not an expression".into() });
    };
    let line = usize::try_from(first.pos.0).unwrap_or(1).max(1);
    let column = usize::try_from(first.pos.1).unwrap_or(1).max(1);
    let whole = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let before: String = whole.chars().take(column.saturating_sub(1)).collect();
    let rest: String = whole.chars().skip(column.saturating_sub(1)).collect();
    if before.trim_end().to_ascii_lowercase().split(|c: char| !c.is_alphanumeric()).next_back() == Some("not")
    {
        let column = before.trim_end().chars().count().saturating_sub(2);
        return Err(FilterError { line, column, message: "write ! for \"not\"".into() });
    }
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let message = match word.to_ascii_lowercase().as_str() {
        "and" => "write && for \"and\"".into(),
        "or" => "write || for \"or\"".into(),
        "is" => "write == for \"is\"".into(),
        "contains" | "like" => format!("write field.contains(\"…\") for \"{word}\""),
        _ if rest.starts_with('=') && !rest.starts_with("==") => "write == to compare".into(),
        _ if rest.starts_with(['"', '\'']) => "this text is not closed, or does not belong here".into(),
        _ if rest.is_empty() => "the expression is not complete".into(),
        _ => {
            let message = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
            // The parser lists every token that it would have taken, which helps nobody.
            let message = message.split(" expecting ").next().unwrap_or(message);
            format!("not an expression: {message}")
        }
    };
    Err(FilterError { line, column, message })
}

struct Compiler<'t> {
    text: &'t str,
    source: SourceInfo,
    locals: Vec<(String, Type)>,
}

type Compiled = Result<Node, FilterError>;

impl Compiler<'_> {
    /// Where an expression begins, in octets.
    fn start(&self, expr: &IdedExpr) -> usize {
        let own = self.source.offset_for(expr.id).map_or(usize::MAX, |(start, _)| start as usize);
        let inner = match &expr.expr {
            Expr::Select(select) => self.start(&select.operand),
            Expr::Call(call) => match (&call.target, call.args.first()) {
                (Some(target), _) => self.start(target),
                // Operators are called by names like `_+_`.
                (None, Some(first)) if !call.func_name.starts_with(char::is_alphabetic) => {
                    own.min(self.start(first))
                }
                _ => usize::MAX,
            },
            Expr::Comprehension(c) => self.start(&c.iter_range),
            _ => usize::MAX,
        };
        match &expr.expr {
            // The parser gives the bracket; the name stands before it.
            Expr::Call(call) if inner == usize::MAX => own.saturating_sub(call.func_name.len()),
            _ => own.min(inner),
        }
    }

    fn fail<T>(&self, expr: &IdedExpr, message: impl Into<String>) -> Result<T, FilterError> {
        let start = match self.start(expr) {
            usize::MAX => 0,
            start => start,
        };
        Err(error_at(self.text, start, message))
    }

    fn condition(&mut self, expr: &IdedExpr) -> Compiled {
        let node = self.node(expr)?;
        match node.ty {
            Type::Bool | Type::Object | Type::Any => Ok(node),
            Type::Null => self.fail(expr, "null is not a condition"),
            ty => {
                let what = match &node.op {
                    Op::Field(field) => format!("{} is of type {}", field.name, ty.name()),
                    _ => format!("this is of type {}", ty.name()),
                };
                let example = match ty {
                    Type::Text => " == \"…\"",
                    Type::Texts | Type::List | Type::Numbers => ".size() > 0",
                    Type::Headers => "[\"…\"] != null",
                    _ => " > 0",
                };
                let whole: String = match &node.op {
                    Op::Field(field) => format!(": write {}{example}", field.name),
                    _ => String::new(),
                };
                self.fail(expr, format!("{what}, which is not a condition{whole}"))
            }
        }
    }

    fn node(&mut self, expr: &IdedExpr) -> Compiled {
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(_) => self.path(expr),
            Expr::Select(select) if select.test => {
                let node = self.path(expr)?;
                Ok(Node { op: Op::Present(Box::new(node)), ty: Type::Bool })
            }
            Expr::Select(_) => self.path(expr),
            Expr::List(list) => {
                let items = list.elements.iter().map(|e| self.node(e)).collect::<Result<Vec<_>, _>>()?;
                if let Some(at) = items.iter().position(|i| {
                    !matches!(
                        i.ty,
                        Type::Text | Type::Int | Type::Double | Type::Bool | Type::Time | Type::Any
                    )
                }) {
                    return self.fail(
                        list.elements.get(at).unwrap_or(expr),
                        "a list in a filter holds texts, numbers, times or conditions",
                    );
                }
                let all = |ty: Type| !items.is_empty() && items.iter().all(|i| i.ty == ty);
                let ty = if all(Type::Text) {
                    Type::Texts
                } else if all(Type::Int) {
                    Type::Numbers
                } else {
                    Type::List
                };
                Ok(Node { op: Op::List(items), ty })
            }
            Expr::Call(call) => self.call(expr, call),
            Expr::Comprehension(comprehension) => self.comprehension(expr, comprehension),
            Expr::Map(_) => self.fail(expr, "a filter has no maps"),
            Expr::Struct(_) => self.fail(expr, "a filter has no messages"),
            Expr::Unspecified => self.fail(expr, "not an expression"),
        }
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Compiled {
        let (op, ty) = match literal {
            LiteralValue::Null => (Op::Null, Type::Null),
            LiteralValue::Boolean(b) => (Op::Bool(*b.inner()), Type::Bool),
            LiteralValue::Int(i) => (Op::Int(*i.inner()), Type::Int),
            // Sizes and durations are signed here, as all fields; what is larger compares as the largest.
            LiteralValue::UInt(u) => (Op::Int(i64::try_from(*u.inner()).unwrap_or(i64::MAX)), Type::Int),
            LiteralValue::Double(d) => (Op::Double(*d.inner()), Type::Double),
            LiteralValue::String(s) => (Op::Text(s.inner().into()), Type::Text),
            LiteralValue::Bytes(_) => {
                return self.fail(expr, "a filter has no bytes: write the text without b");
            }
        };
        Ok(Node { op, ty })
    }

    /// A name, or a name in a name: a loop's variable, a field, or a header.
    fn path(&mut self, expr: &IdedExpr) -> Compiled {
        let mut names = Vec::new();
        let mut at = expr;
        let root = loop {
            match &at.expr {
                Expr::Select(select) => {
                    names.push(select.field.as_str());
                    at = &select.operand;
                }
                Expr::Ident(name) => {
                    names.push(name.as_str());
                    break at;
                }
                _ => {
                    // Only headers have parts, and they are fields: (request.headers).host comes as a plain path.
                    return self
                        .fail(expr, format!("this has no part called {}", names.last().unwrap_or(&"")));
                }
            }
        };
        names.reverse();
        let first = names.first().copied().unwrap_or_default();
        if let Some(place) = self.locals.iter().rposition(|(name, _)| name == first) {
            if names.len() > 1 {
                return self
                    .fail(root, format!("{first} is the variable of a loop over names, and has no parts"));
            }
            let ty = self.locals.get(place).map_or(Type::Any, |(_, ty)| *ty);
            return Ok(Node { op: Op::Local(place), ty });
        }
        let full = names.join(".");
        if let Some(field) = fields::find(full.trim_start_matches('.')) {
            return Ok(Node { op: Op::Field(field), ty: field.ty });
        }
        let (header, before) =
            names.split_last().map_or(("", String::new()), |(last, before)| (*last, before.join(".")));
        if let Some(field) = fields::find(before.trim_start_matches('.')) {
            let field_node = Node { op: Op::Field(field), ty: field.ty };
            match field.ty {
                Type::Headers => {
                    let name = Node { op: Op::Text(header.into()), ty: Type::Text };
                    return Ok(Node { op: Op::Header(Box::new(field_node), Box::new(name)), ty: Type::Text });
                }
                Type::Object => {}
                ty => {
                    let message = format!("{} is of type {} and has no parts", field.name, ty.name());
                    return self.fail(root, message);
                }
            }
        }
        let group = format!("{full}.");
        let parts: Vec<&str> = fields::names().filter(|n| n.starts_with(&group)).collect();
        if !parts.is_empty() {
            let message = format!("{full} is a group of fields; name one of them: {}", parts.join(", "));
            return self.fail(root, message);
        }
        let hint = match nearest(&full) {
            Some(name) => format!("; did you mean {name}?"),
            None => "; the README and the viewer list the fields".into(),
        };
        self.fail(root, format!("no exchange has a field {full}{hint}"))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Compiled {
        let name = call.func_name.as_str();
        match (name, call.target.as_deref(), call.args.as_slice()) {
            (operators::LOGICAL_AND, None, [a, b]) => {
                let (a, b) = (self.condition(a)?, self.condition(b)?);
                Ok(Node { op: Op::And(Box::new(a), Box::new(b)), ty: Type::Bool })
            }
            (operators::LOGICAL_OR, None, [a, b]) => {
                let (a, b) = (self.condition(a)?, self.condition(b)?);
                Ok(Node { op: Op::Or(Box::new(a), Box::new(b)), ty: Type::Bool })
            }
            (operators::LOGICAL_NOT, None, [a]) => {
                let a = self.condition(a)?;
                Ok(Node { op: Op::Not(Box::new(a)), ty: Type::Bool })
            }
            (operators::CONDITIONAL, None, [condition, then, otherwise]) => {
                let c = self.condition(condition)?;
                let (a, b) = (self.node(then)?, self.node(otherwise)?);
                let ty = match (a.ty, b.ty) {
                    (Type::Null, ty) | (ty, Type::Null) => ty,
                    (a, b) if a == b => a,
                    (Type::Int | Type::Double, Type::Int | Type::Double) => Type::Double,
                    (Type::Any, _) | (_, Type::Any) => Type::Any,
                    (a, b) => {
                        return self.fail(
                            otherwise,
                            format!(
                                "both sides of : must be of one type; these are {} and {}",
                                a.name(),
                                b.name()
                            ),
                        );
                    }
                };
                Ok(Node { op: Op::If(Box::new(c), Box::new(a), Box::new(b)), ty })
            }
            (operators::EQUALS, None, [a, b]) => self.compare(Comparison::Equal, a, b),
            (operators::NOT_EQUALS, None, [a, b]) => self.compare(Comparison::NotEqual, a, b),
            (operators::LESS, None, [a, b]) => self.compare(Comparison::Less, a, b),
            (operators::LESS_EQUALS, None, [a, b]) => self.compare(Comparison::LessOrEqual, a, b),
            (operators::GREATER, None, [a, b]) => self.compare(Comparison::Greater, a, b),
            (operators::GREATER_EQUALS, None, [a, b]) => self.compare(Comparison::GreaterOrEqual, a, b),
            (operators::IN, None, [item, list]) => self.within(item, list),
            (operators::ADD, None, [a, b]) => self.arithmetic(expr, Arithmetic::Add, a, b),
            (operators::SUBSTRACT, None, [a, b]) => self.arithmetic(expr, Arithmetic::Subtract, a, b),
            (operators::MULTIPLY, None, [a, b]) => self.arithmetic(expr, Arithmetic::Multiply, a, b),
            (operators::DIVIDE, None, [a, b]) => self.arithmetic(expr, Arithmetic::Divide, a, b),
            (operators::MODULO, None, [a, b]) => self.arithmetic(expr, Arithmetic::Modulo, a, b),
            (operators::NEGATE, None, [a]) => {
                let node = self.node(a)?;
                match node.ty {
                    Type::Int | Type::Double | Type::Any => {
                        let ty = node.ty;
                        Ok(Node { op: Op::Negate(Box::new(node)), ty })
                    }
                    ty => self.fail(a, format!("- needs a number; this is of type {}", ty.name())),
                }
            }
            (operators::INDEX, None, [a, index]) => self.index(a, index),
            ("size", Some(a), []) | ("size", None, [a]) => {
                let node = self.node(a)?;
                match node.ty {
                    Type::Text | Type::Any | Type::Headers => {
                        Ok(Node { op: Op::Size(Box::new(node)), ty: Type::Int })
                    }
                    Type::Texts | Type::List | Type::Numbers => Ok(size_of(node)),
                    ty => self.fail(
                        a,
                        format!("size needs a text, a list or a map; this is of type {}", ty.name()),
                    ),
                }
            }
            ("contains", Some(a), [b]) => {
                let a = self.text(a, "contains")?;
                let b = self.text(b, "contains")?;
                let op = match b.op {
                    Op::Text(needle) => {
                        Op::Finds(Box::new(a), Box::new(Finder::new(needle.as_bytes()).into_owned()))
                    }
                    op => Op::Contains(Box::new(a), Box::new(Node { op, ty: b.ty })),
                };
                Ok(Node { op, ty: Type::Bool })
            }
            ("startsWith", Some(a), [b]) => {
                let (a, b) = (self.text(a, name)?, self.text(b, name)?);
                Ok(Node { op: Op::StartsWith(Box::new(a), Box::new(b)), ty: Type::Bool })
            }
            ("endsWith", Some(a), [b]) => {
                let (a, b) = (self.text(a, name)?, self.text(b, name)?);
                Ok(Node { op: Op::EndsWith(Box::new(a), Box::new(b)), ty: Type::Bool })
            }
            ("matches", Some(a), [pattern]) | ("matches", None, [a, pattern]) => {
                let a = self.text(a, name)?;
                let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
                    return self.fail(pattern, "the pattern of matches must be written out, in quotes");
                };
                let compiled = regex::RegexBuilder::new(text.inner())
                    .size_limit(MAX_PATTERN)
                    .dfa_size_limit(MAX_PATTERN)
                    .nest_limit(50)
                    .build();
                match compiled {
                    Ok(regex) => Ok(Node { op: Op::Matches(Box::new(a), Box::new(regex)), ty: Type::Bool }),
                    Err(error) => {
                        let error = error.to_string();
                        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                        self.fail(pattern, format!("not a pattern: {why}"))
                    }
                }
            }
            ("lowerAscii", Some(a), []) => {
                let a = self.text(a, name)?;
                Ok(Node { op: Op::Lower(Box::new(a)), ty: Type::Text })
            }
            ("upperAscii", Some(a), []) => {
                let a = self.text(a, name)?;
                Ok(Node { op: Op::Upper(Box::new(a)), ty: Type::Text })
            }
            ("string" | "int" | "uint" | "double", None, [a]) => {
                let node = self.node(a)?;
                if !matches!(
                    node.ty,
                    Type::Text | Type::Int | Type::Double | Type::Time | Type::Bool | Type::Any
                ) {
                    return self.fail(a, format!("{name} cannot be made of type {}", node.ty.name()));
                }
                let (op, ty) = match name {
                    "string" => (Op::ToText(Box::new(node)), Type::Text),
                    "double" => (Op::ToDouble(Box::new(node)), Type::Double),
                    _ => (Op::ToInt(Box::new(node)), Type::Int),
                };
                Ok(Node { op, ty })
            }
            ("timestamp", None, [a]) => match &a.expr {
                Expr::Literal(LiteralValue::String(text)) => self.time(a, text.inner()),
                _ => self.fail(a, "a time must be written out: timestamp(\"2026-11-23T07:27:00Z\")"),
            },
            _ => {
                const FUNCTIONS: &[&str] = &[
                    "contains",
                    "startsWith",
                    "endsWith",
                    "matches",
                    "size",
                    "lowerAscii",
                    "upperAscii",
                    "string",
                    "int",
                    "double",
                    "timestamp",
                    "has",
                    "exists",
                    "all",
                    "exists_one",
                    "filter",
                    "map",
                ];
                let known = FUNCTIONS.contains(&name);
                let nearest = match name {
                    "len" | "length" | "count" | "lenght" => Some(&"size"),
                    _ => {
                        FUNCTIONS.iter().min_by_key(|f| distance(f, name)).filter(|f| distance(f, name) <= 3)
                    }
                };
                let message = match nearest {
                    _ if known => format!("{name} is not called like this; see text.{name}(…) and {name}(…)"),
                    Some(nearest) => format!("there is no function {name}; did you mean {nearest}?"),
                    None => format!("there is no function {name}; there are {}", FUNCTIONS.join(", ")),
                };
                self.fail(expr, message)
            }
        }
    }

    fn text(&mut self, expr: &IdedExpr, function: &str) -> Compiled {
        let node = self.node(expr)?;
        match node.ty {
            Type::Text | Type::Any => Ok(node),
            Type::Texts if function == "contains" => {
                self.fail(expr, "this is a list: write \"…\" in list instead of list.contains(\"…\")")
            }
            ty => self.fail(expr, format!("{function} needs a text; this is of type {}", ty.name())),
        }
    }

    fn time(&self, expr: &IdedExpr, text: &str) -> Compiled {
        let time = text.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_nanosecond()).ok());
        match time {
            Some(time) => Ok(Node { op: Op::Time(time), ty: Type::Time }),
            None => self.fail(expr, "not a time; write it as 2026-11-23T07:27:00Z"),
        }
    }

    fn arithmetic(
        &mut self,
        expr: &IdedExpr,
        arithmetic: Arithmetic,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Compiled {
        let (a, b) = (self.node(a)?, self.node(b)?);
        let ty = match (a.ty, b.ty) {
            (Type::Int, Type::Int) => Type::Int,
            (Type::Int | Type::Double, Type::Int | Type::Double) if arithmetic != Arithmetic::Modulo => {
                Type::Double
            }
            (Type::Text, Type::Text) if arithmetic == Arithmetic::Add => Type::Text,
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (a, b) => {
                return self
                    .fail(expr, format!("this cannot be reckoned with: {} and {}", a.name(), b.name()));
            }
        };
        Ok(Node { op: Op::Arithmetic(arithmetic, Box::new(a), Box::new(b)), ty })
    }

    fn index(&mut self, a: &IdedExpr, index: &IdedExpr) -> Compiled {
        let (list, place) = (self.node(a)?, self.node(index)?);
        match (list.ty, place.ty) {
            (Type::Headers, Type::Text | Type::Any) => {
                Ok(Node { op: Op::Header(Box::new(list), Box::new(place)), ty: Type::Text })
            }
            (Type::Headers, _) => self.fail(index, "the name of a header is a text: write it in quotes"),
            (Type::Texts | Type::Numbers | Type::List, Type::Int | Type::Any) => {
                let ty = element(list.ty);
                Ok(Node { op: Op::Index(Box::new(list), Box::new(place)), ty })
            }
            (Type::Texts | Type::Numbers | Type::List, _) => {
                self.fail(index, "a place in a list is a number")
            }
            (ty, _) => {
                self.fail(a, format!("only lists and headers have parts; this is of type {}", ty.name()))
            }
        }
    }

    fn compare(&mut self, comparison: Comparison, left: &IdedExpr, right: &IdedExpr) -> Compiled {
        let (mut a, mut b) = (self.node(left)?, self.node(right)?);
        let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        if a.ty == Type::Null || b.ty == Type::Null {
            if !equality {
                return self.fail(left, "null can only be compared with == and !=");
            }
            let other = if b.ty == Type::Null { a } else { b };
            let present = Node { op: Op::Present(Box::new(other)), ty: Type::Bool };
            return Ok(match comparison {
                Comparison::Equal => Node { op: Op::Not(Box::new(present)), ty: Type::Bool },
                _ => present,
            });
        }
        let is_list = |ty| matches!(ty, Type::Texts | Type::Numbers | Type::List);
        let is_number = |ty| matches!(ty, Type::Int | Type::Double);
        if is_list(a.ty) && is_number(b.ty) {
            a = size_of(a);
        } else if is_list(b.ty) && is_number(a.ty) {
            b = size_of(b);
        }
        if a.ty == Type::Time
            && let Op::Text(text) = &b.op
        {
            b = self.time(right, text)?;
        } else if b.ty == Type::Time
            && let Op::Text(text) = &a.op
        {
            a = self.time(left, text)?;
        }
        for (node, other, at) in [(&a, &b, right), (&b, &a, left)] {
            if let (Op::Field(field), Op::Text(text)) = (&node.op, &other.op) {
                self.check_value(field, text, at)?;
            }
        }
        let fits = match (a.ty, b.ty) {
            (Type::Any, _) | (_, Type::Any) => true,
            (a, b) if is_number(a) && is_number(b) => true,
            (a, b) if is_list(a) && is_list(b) => equality,
            (a, b) => a == b && !matches!(a, Type::Object | Type::Headers),
        };
        if !fits {
            return self.fail(right, mismatch(&a, &b));
        }
        Ok(Node { op: Op::Compare(comparison, Box::new(a), Box::new(b)), ty: Type::Bool })
    }

    /// A text that the field can never have is a slip, not a filter.
    fn check_value(&self, field: &Field, text: &str, at: &IdedExpr) -> Result<(), FilterError> {
        let Some(values) = field.values.map(|v| v()) else { return Ok(()) };
        if values.contains(&text) {
            return Ok(());
        }
        let limit = (text.chars().count() / 3).min(4);
        let nearest = values.iter().min_by_key(|v| distance(v, text)).filter(|v| distance(v, text) <= limit);
        let help = match nearest {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => format!("it can be {}", values.join(", ")),
        };
        self.fail(at, format!("{} is never \"{text}\"; {help}", field.name))
    }

    fn within(&mut self, item: &IdedExpr, list: &IdedExpr) -> Compiled {
        let (a, b) = (self.node(item)?, self.node(list)?);
        match b.ty {
            Type::Headers => match a.ty {
                Type::Text | Type::Any => {
                    Ok(Node { op: Op::HasHeader(Box::new(a), Box::new(b)), ty: Type::Bool })
                }
                _ => self.fail(item, "the name of a header is a text: write it in quotes"),
            },
            Type::Texts | Type::Numbers | Type::List | Type::Any => {
                if let (Op::Text(text), Op::Field(field)) = (&a.op, &b.op) {
                    self.check_value(field, text, item)?;
                }
                if let (Op::Field(field), Op::List(items), Expr::List(exprs)) = (&a.op, &b.op, &list.expr) {
                    for (node, expr) in items.iter().zip(&exprs.elements) {
                        if let Op::Text(text) = &node.op {
                            self.check_value(field, text, expr)?;
                        }
                    }
                }
                let fits = matches!(
                    (a.ty, b.ty),
                    (Type::Any, _)
                        | (_, Type::List | Type::Any)
                        | (Type::Text, Type::Texts)
                        | (Type::Int | Type::Double, Type::Numbers)
                );
                if !fits {
                    let message = format!("a value of type {} is never in a {}", a.ty.name(), b.ty.name());
                    return self.fail(item, message);
                }
                if a.ty == Type::Text
                    && let Op::List(items) = &b.op
                    && let Some(mut texts) = items
                        .iter()
                        .map(|i| if let Op::Text(t) = &i.op { Some(t.clone()) } else { None })
                        .collect::<Option<Vec<_>>>()
                {
                    texts.sort_unstable();
                    return Ok(Node { op: Op::OneOf(Box::new(a), texts.into()), ty: Type::Bool });
                }
                Ok(Node { op: Op::In(Box::new(a), Box::new(b)), ty: Type::Bool })
            }
            Type::Text => self.fail(list, "in needs a list; for a part of a text write text.contains(\"…\")"),
            ty => self.fail(list, format!("in needs a list or headers; this is of type {}", ty.name())),
        }
    }

    /// The parser writes `all`, `exists`, `exists_one`, `filter` and `map` out as folds over `@result`; here they become
    /// loops again. There is no other way to write a fold in CEL.
    fn comprehension(&mut self, expr: &IdedExpr, c: &ComprehensionExpr) -> Compiled {
        let range = self.node(&c.iter_range)?;
        let ty = match range.ty {
            Type::Headers => Type::Text,
            Type::Texts | Type::Numbers | Type::List => element(range.ty),
            Type::Any => Type::Any,
            ty => {
                return self.fail(
                    &c.iter_range,
                    format!("only lists and headers are looped over, not {}", ty.name()),
                );
            }
        };
        let accumulated = |e: &IdedExpr| matches!(&e.expr, Expr::Ident(name) if *name == c.accu_var);
        let args = |e: &'_ IdedExpr, name: &str| match &e.expr {
            Expr::Call(call) if call.func_name == name => Some(call.args.clone()),
            _ => None,
        };
        // `@result + [x]`, which gives x.
        let appended = |e: &IdedExpr| match args(e, operators::ADD).as_deref() {
            Some([accu, IdedExpr { expr: Expr::List(list), .. }]) if accumulated(accu) => {
                list.elements.first().cloned()
            }
            _ => None,
        };
        let step = &c.loop_step;
        let (kind, condition, result) = if let Some([accu, condition]) =
            args(step, operators::LOGICAL_OR).as_deref()
            && accumulated(accu)
        {
            (Loop::Exists, Some(condition.clone()), None)
        } else if let Some([accu, condition]) = args(step, operators::LOGICAL_AND).as_deref()
            && accumulated(accu)
        {
            (Loop::All, Some(condition.clone()), None)
        } else if let Some(result) = appended(step) {
            (Loop::Collect, None, Some(result))
        } else if let Some([condition, then, _]) = args(step, operators::CONDITIONAL).as_deref() {
            match appended(then) {
                Some(result) => (Loop::Collect, Some(condition.clone()), Some(result)),
                None => (Loop::ExistsOne, Some(condition.clone()), None),
            }
        } else {
            return self.fail(expr, "a filter has no such loop");
        };
        self.locals.push((c.iter_var.clone(), ty));
        let condition = condition.map(|e| self.condition(&e)).transpose();
        let result = result.map(|e| self.node(&e)).transpose();
        self.locals.pop();
        let (condition, result) = (condition?, result?);
        let ty = match (kind, result.as_ref().map(|r| r.ty)) {
            (Loop::Collect, Some(Type::Text)) => Type::Texts,
            (Loop::Collect, Some(Type::Int)) => Type::Numbers,
            (Loop::Collect, Some(Type::Bool | Type::Double | Type::Time | Type::Any)) => Type::List,
            (Loop::Collect, ty) => {
                return self.fail(expr, format!("a list cannot hold {}", ty.unwrap_or(Type::Null).name()));
            }
            _ => Type::Bool,
        };
        let op = Op::Loop {
            kind,
            range: Box::new(range),
            condition: condition.map(Box::new),
            result: result.map(Box::new),
        };
        Ok(Node { op, ty })
    }
}

fn element(list: Type) -> Type {
    match list {
        Type::Texts => Type::Text,
        Type::Numbers => Type::Int,
        _ => Type::Any,
    }
}

/// The length of a list; of a field whose length is known without the list, that.
fn size_of(list: Node) -> Node {
    if let Op::Field(field) = &list.op
        && let Some(count) = fields::COUNTS.iter().find(|c| c.name == field.name)
    {
        return Node { op: Op::Field(count), ty: Type::Int };
    }
    Node { op: Op::Size(Box::new(list)), ty: Type::Int }
}

fn mismatch(a: &Node, b: &Node) -> String {
    let (field, other) = match (&a.op, &b.op) {
        (Op::Field(field), _) => (field, b),
        (_, Op::Field(field)) => (field, a),
        _ => return format!("{} and {} cannot be compared", a.ty.name(), b.ty.name()),
    };
    let help = match (field.ty, &other.op) {
        (Type::Int, Op::Text(text)) if text.parse::<i64>().is_ok() => {
            format!(": write {text} without quotes")
        }
        (Type::Text, Op::Int(n)) => format!(": write \"{n}\" in quotes"),
        (Type::Texts, Op::Text(text)) => format!(": write \"{text}\" in {}", field.name),
        (Type::Object, _) => format!(": write {} != null, or name one of its fields", field.name),
        (Type::Headers, _) => format!(": write {}[\"name\"]", field.name),
        _ => String::new(),
    };
    format!("{} is of type {}, not {}{help}", field.name, field.ty.name(), other.ty.name())
}

/// The field that was most likely meant.
fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let own_last = last(name);
    let limit = (name.chars().count() / 3).clamp(1, 4);
    fields::names()
        .map(|candidate| {
            let whole = distance(candidate, name);
            // `status` for `response.status`: the end is right, what leads to it is missing or wrong.
            let part = if last(candidate) == own_last {
                1
            } else if name.contains('.') {
                usize::MAX
            } else {
                distance(&last(candidate), &own_last).saturating_add(1)
            };
            (whole.min(part), whole, candidate)
        })
        .filter(|(near, _, _)| *near <= limit)
        .min_by_key(|(near, whole, _)| (*near, *whole))
        .map(|(_, _, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, y) in b.iter().enumerate() {
            let next = j.saturating_add(1);
            let mut best = at(&last, j).saturating_add(usize::from(x != y));
            best = best.min(at(&last, next).saturating_add(1)).min(at(&row, j).saturating_add(1));
            let swapped =
                i > 0 && j > 0 && a.get(i.wrapping_sub(1)) == Some(y) && b.get(j.wrapping_sub(1)) == Some(x);
            if swapped {
                best = best.min(at(&before_last, j.wrapping_sub(1)).saturating_add(1));
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

/// What a filter looks at.
pub(super) struct Used {
    pub(super) row_only: bool,
    pub(super) bodies: bool,
}

impl Default for Used {
    fn default() -> Self {
        Self { row_only: true, bodies: false }
    }
}

/// Adds up what a node looks at.
pub(super) fn used(node: &Node, sum: &mut Used) {
    match &node.op {
        Op::Field(field) => {
            sum.row_only &= field.in_row();
            sum.bodies |= field.bodies;
        }
        Op::Null | Op::Bool(_) | Op::Int(_) | Op::Double(_) | Op::Text(_) | Op::Time(_) | Op::Local(_) => {}
        Op::List(items) => items.iter().for_each(|i| used(i, sum)),
        Op::Not(a)
        | Op::Present(a)
        | Op::OneOf(a, _)
        | Op::Negate(a)
        | Op::Finds(a, _)
        | Op::Matches(a, _)
        | Op::Size(a)
        | Op::Lower(a)
        | Op::Upper(a)
        | Op::ToText(a)
        | Op::ToInt(a)
        | Op::ToDouble(a) => used(a, sum),
        Op::Header(a, b)
        | Op::Index(a, b)
        | Op::And(a, b)
        | Op::Or(a, b)
        | Op::Compare(_, a, b)
        | Op::In(a, b)
        | Op::HasHeader(a, b)
        | Op::Arithmetic(_, a, b)
        | Op::Contains(a, b)
        | Op::StartsWith(a, b)
        | Op::EndsWith(a, b) => {
            used(a, sum);
            used(b, sum);
        }
        Op::If(a, b, c) => {
            used(a, sum);
            used(b, sum);
            used(c, sum);
        }
        Op::Loop { range, condition, result, .. } => {
            used(range, sum);
            condition.iter().chain(result).for_each(|n| used(n, sum));
        }
    }
}

fn indexed(field: &Field) -> Option<Indexed> {
    Some(match field.name {
        "activity.id" => Indexed::ActivityId,
        "activity.actor" => Indexed::Actor,
        "origin.host" => Indexed::OriginHost,
        "request.host" => Indexed::RequestHost,
        "activity.type" => Indexed::ActivityType,
        "kind" => Indexed::Kind,
        _ => return None,
    })
}

/// The values one of which an indexed field must have, where a node says so.
fn any_of(node: &Node) -> Option<(Indexed, Vec<Box<str>>)> {
    match &node.op {
        Op::Compare(Comparison::Equal, a, b) => match (&a.op, &b.op) {
            (Op::Field(field), Op::Text(text)) | (Op::Text(text), Op::Field(field)) => {
                Some((indexed(field)?, vec![text.clone()]))
            }
            _ => None,
        },
        Op::OneOf(item, values) => match &item.op {
            Op::Field(field) => Some((indexed(field)?, values.to_vec())),
            _ => None,
        },
        Op::Or(a, b) => {
            let (a, b) = (any_of(a)?, any_of(b)?);
            let both: Vec<Box<str>> = a.1.into_iter().chain(b.1).collect();
            (a.0 == b.0).then_some((a.0, both))
        }
        _ => None,
    }
}

/// What must hold of all that matches, as far as indexes know of it.
pub(super) fn plan(root: &Node) -> Plan {
    let mut plan = Plan::default();
    conjuncts(root, &mut plan);
    plan
}

fn conjuncts(node: &Node, plan: &mut Plan) {
    if let Some(any_of) = any_of(node) {
        plan.any_of.push(any_of);
        return;
    }
    match &node.op {
        Op::And(a, b) => {
            conjuncts(a, plan);
            conjuncts(b, plan);
        }
        Op::Compare(comparison, a, b) => {
            let (field, constant, comparison) = match (&a.op, &b.op) {
                (Op::Field(field), constant) => (field, constant, *comparison),
                (constant, Op::Field(field)) => (field, constant, turned(*comparison)),
                _ => return,
            };
            match (field.name, constant) {
                ("response.status", Op::Int(n)) => limit_status(plan, comparison, *n),
                ("started", Op::Time(t)) => limit_time(plan, comparison, *t),
                _ => {}
            }
        }
        _ => {}
    }
}

/// The comparison with its sides exchanged.
fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

fn limit_status(plan: &mut Plan, comparison: Comparison, n: i64) {
    let clamp = |n: i64| u16::try_from(n.clamp(0, i64::from(u16::MAX))).unwrap_or(u16::MAX);
    let (low, high) = match comparison {
        Comparison::Equal => (clamp(n), clamp(n)),
        Comparison::NotEqual => return,
        Comparison::Less => (0, clamp(n.saturating_sub(1))),
        Comparison::LessOrEqual => (0, clamp(n)),
        Comparison::Greater => (clamp(n.saturating_add(1)), u16::MAX),
        Comparison::GreaterOrEqual => (clamp(n), u16::MAX),
    };
    let (from, to) = plan.status.unwrap_or((0, u16::MAX));
    plan.status = Some((from.max(low), to.min(high)));
}

fn limit_time(plan: &mut Plan, comparison: Comparison, t: u64) {
    let (from, to) = match comparison {
        Comparison::Equal => (Some(t), t.checked_add(1)),
        Comparison::NotEqual => return,
        Comparison::Less => (None, Some(t)),
        Comparison::LessOrEqual => (None, t.checked_add(1)),
        Comparison::Greater => (Some(t.saturating_add(1)), None),
        Comparison::GreaterOrEqual => (Some(t), None),
    };
    if let Some(from) = from {
        plan.from = Some(plan.from.map_or(Timestamp(from), |f| f.max(Timestamp(from))));
    }
    if let Some(to) = to {
        plan.to = Some(plan.to.map_or(Timestamp(to), |f| f.min(Timestamp(to))));
    }
}
