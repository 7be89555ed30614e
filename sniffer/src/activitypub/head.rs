//! From an exchange to what the readers ask for again and again: the header fields that matter, collected in one
//! pass, media types taken apart, the target split. It judges nothing.

use crate::http::{Body, Headers, Request};

/// Bodies larger than this are not parsed: no inbox takes them (§7.4 of the facts), and time stays bounded.
const BODY_LIMIT: usize = 2 << 20;

/// The Activity Streams namespace, which is also the profile of its JSON-LD media type (ActivityPub §3.2).
pub(super) const AS2: &str = "https://www.w3.org/ns/activitystreams";

/// A set of media types, as far as they matter here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Media(u16);

impl Media {
    /// `application/activity+json`.
    pub(super) const ACTIVITY: Self = Self(1);
    /// `application/ld+json` with the Activity Streams profile.
    pub(super) const LD_PROFILE: Self = Self(1 << 1);
    /// `application/ld+json` without it.
    pub(super) const LD: Self = Self(1 << 2);
    /// `application/jrd+json`.
    pub(super) const JRD: Self = Self(1 << 3);
    /// `application/json` and any other `+json`.
    pub(super) const JSON: Self = Self(1 << 4);
    /// `text/html`, `application/xhtml+xml`.
    pub(super) const HTML: Self = Self(1 << 5);
    /// `application/xrd+xml`, `application/xml`, `text/xml`.
    pub(super) const XML: Self = Self(1 << 6);
    /// `text/event-stream`.
    pub(super) const EVENTS: Self = Self(1 << 7);
    /// `image/*`.
    pub(super) const IMAGE: Self = Self(1 << 8);
    /// `video/*`.
    pub(super) const VIDEO: Self = Self(1 << 9);
    /// `audio/*`.
    pub(super) const AUDIO: Self = Self(1 << 10);
    /// `*/*`.
    pub(super) const ANY: Self = Self(1 << 11);
    /// Scripts, styles, fonts.
    pub(super) const ASSET: Self = Self(1 << 12);
    /// `text/plain`.
    pub(super) const PLAIN: Self = Self(1 << 13);
    /// Anything else.
    pub(super) const OTHER: Self = Self(1 << 14);

    /// Both Activity Streams types (ActivityPub §3.2 asks to treat them alike).
    pub(super) const AS: Self = Self(Self::ACTIVITY.0 | Self::LD_PROFILE.0);
    /// What may carry an activity, however sloppily it is named.
    pub(super) const ASISH: Self = Self(Self::AS.0 | Self::LD.0);
    /// All JSON.
    pub(super) const ANY_JSON: Self = Self(Self::ASISH.0 | Self::JRD.0 | Self::JSON.0);
    /// Pictures, films, sound.
    pub(super) const MEDIA: Self = Self(Self::IMAGE.0 | Self::VIDEO.0 | Self::AUDIO.0);

    /// Whether the two sets have a member in common.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True for the empty set.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when `self` has members, and all are in `other`.
    pub(super) fn only(self, other: Self) -> bool {
        self.0 != 0 && self.0 & !other.0 == 0
    }

    /// A list of media types or ranges, as in `Accept` and `Content-Type` (RFC 9110 §12.5.1, §8.3.1). Commas inside
    /// quotes do not separate.
    pub(super) fn parse(text: &str) -> Self {
        split_quoted(text, b',').fold(Self::default(), |set, one| Self(set.0 | Self::one(one).0))
    }

    fn one(text: &str) -> Self {
        let mut parts = split_quoted(text, b';');
        let Some(essence) = parts.next().map(str::trim).filter(|e| !e.is_empty()) else {
            return Self::default();
        };
        let is = |other: &str| essence.eq_ignore_ascii_case(other);
        let starts = |prefix: &str| {
            essence.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if is("application/activity+json") {
            Self::ACTIVITY
        } else if is("application/ld+json") {
            let profiled = parts.any(|parameter| {
                parameter.split_once('=').is_some_and(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("profile")
                        && value.trim().trim_matches('"').split_ascii_whitespace().any(|p| p == AS2)
                })
            });
            if profiled { Self::LD_PROFILE } else { Self::LD }
        } else if is("application/jrd+json") {
            Self::JRD
        } else if is("application/json") {
            Self::JSON
        } else if is("text/html") || is("application/xhtml+xml") {
            Self::HTML
        } else if is("application/xrd+xml") || is("application/xml") || is("text/xml") {
            Self::XML
        } else if is("text/event-stream") {
            Self::EVENTS
        } else if is("text/plain") {
            Self::PLAIN
        } else if is("*/*") || is("*") {
            Self::ANY
        } else if starts("image/") {
            Self::IMAGE
        } else if starts("video/") {
            Self::VIDEO
        } else if starts("audio/") {
            Self::AUDIO
        } else if is("text/css")
            || is("text/javascript")
            || is("application/javascript")
            || is("application/manifest+json")
            || starts("font/")
        {
            Self::ASSET
        } else if essence.len() > 5 && essence.get(essence.len().saturating_sub(5)..) == Some("+json") {
            Self::JSON
        } else {
            Self::OTHER
        }
    }
}

/// Splits at a separator that is not inside a quoted string (RFC 9110 §5.6.4).
fn split_quoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        // Most have no quotes; finding a byte is faster than looking at each.
        if memchr::memchr(b'"', current.as_bytes()).is_none() {
            return match memchr::memchr(separator, current.as_bytes()) {
                Some(at) => {
                    rest = current.get(at.saturating_add(1)..);
                    current.get(..at)
                }
                None => rest.take(),
            };
        }
        let (mut quoted, mut escaped) = (false, false);
        let at = current.bytes().position(|byte| {
            if escaped {
                escaped = false;
            } else if quoted && byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = !quoted;
            }
            byte == separator && !quoted
        });
        match at {
            Some(at) => {
                rest = current.get(at.saturating_add(1)..);
                current.get(..at)
            }
            None => rest.take(),
        }
    })
}

/// What a request says of itself.
#[derive(Default, Debug)]
pub(super) struct Head<'a> {
    /// The method.
    pub(super) method: Option<&'a str>,
    /// The authority it is for, as sent, without a default port.
    pub(super) host: Option<&'a str>,
    /// The path of the target, without the query; `None` if the target is unknown.
    pub(super) path: Option<&'a str>,
    /// The query, without `?`.
    pub(super) query: Option<&'a str>,
    pub(super) accept: Media,
    pub(super) has_accept: bool,
    /// `text/html` is what it asks for first.
    pub(super) accept_html_first: bool,
    pub(super) content_type: Media,
    pub(super) content_type_text: Option<&'a str>,
    pub(super) user_agent: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    pub(super) signature: Vec<&'a [u8]>,
    pub(super) signature_input: Vec<&'a [u8]>,
    pub(super) digest: Option<&'a [u8]>,
    pub(super) content_digest: Option<&'a [u8]>,
    pub(super) repr_digest: Option<&'a [u8]>,
    pub(super) forwarded_for: Vec<&'a str>,
    pub(super) forwarded: Vec<&'a str>,
    pub(super) real_ip: Option<&'a str>,
    pub(super) forwarded_host: Option<&'a str>,
    pub(super) date: Option<&'a str>,
    /// `Upgrade: websocket`.
    pub(super) websocket: bool,
    pub(super) referer: bool,
    pub(super) cookie: bool,
    /// `Sec-Fetch-Dest`, which browsers send. (`Sec-Fetch-Mode` alone is no sign of one: Node's `fetch` sends it.)
    pub(super) fetch_dest: Option<&'a str>,
    pub(super) fetch_site: bool,
    /// `Collection-Synchronization` (FEP-8fcf).
    pub(super) synchronization: Option<&'a str>,
    /// Some field's name or value is unknown (HPACK state was lost): absence proves nothing.
    pub(super) unsure: bool,
}

impl<'a> Head<'a> {
    /// Collects it.
    pub(super) fn new(request: &'a Request) -> Self {
        let (path, query) = request.target.as_deref().map_or((None, None), split_target);
        let mut head = Self {
            method: request.method.as_deref(),
            host: request.host.as_deref().map(without_default_port).filter(|host| !host.is_empty()),
            path,
            query,
            unsure: request.method.is_none() || request.target.is_none(),
            ..Self::default()
        };
        for (name, value) in request.message.headers.iter() {
            let (Some(name), Some(value)) = (name, value) else {
                head.unsure = true;
                continue;
            };
            head.take(name, value);
        }
        head
    }

    fn take(&mut self, name: &'a [u8], value: &'a [u8]) {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let text = || std::str::from_utf8(value).ok().map(str::trim);
        match name.len() {
            4 if is(b"Date") => self.date = text(),
            6 if is(b"Accept") => {
                self.has_accept = true;
                if let Some(text) = text() {
                    if self.accept.is_empty() {
                        self.accept_html_first = text.get(..9).is_some_and(|t| t.eq_ignore_ascii_case("text/html"));
                    }
                    self.accept = Media(self.accept.0 | Media::parse(text).0);
                }
            }
            6 if is(b"Digest") => self.digest = self.digest.or(Some(value)),
            6 if is(b"Cookie") => self.cookie = true,
            7 if is(b"Upgrade") => {
                self.websocket = text().is_some_and(|t| {
                    t.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
                });
            }
            7 if is(b"Referer") => self.referer = true,
            9 if is(b"Signature") => self.signature.push(value),
            9 if is(b"Forwarded") => self.forwarded.extend(text()),
            9 if is(b"X-Real-Ip") => self.real_ip = text(),
            10 if is(b"User-Agent") => self.user_agent = text().filter(|t| !t.is_empty()),
            11 if is(b"Repr-Digest") => self.repr_digest = Some(value),
            12 if is(b"Content-Type") => {
                self.content_type_text = text();
                self.content_type = self.content_type_text.map(Media::parse).unwrap_or_default();
            }
            13 if is(b"Authorization") => self.authorization = text(),
            14 if is(b"Content-Digest") => self.content_digest = Some(value),
            14 if is(b"Sec-Fetch-Dest") => self.fetch_dest = text(),
            14 if is(b"Sec-Fetch-Site") => self.fetch_site = true,
            15 if is(b"Signature-Input") => self.signature_input.push(value),
            15 if is(b"X-Forwarded-For") => self.forwarded_for.extend(text()),
            16 if is(b"X-Forwarded-Host") => self.forwarded_host = text(),
            26 if is(b"Collection-Synchronization") => self.synchronization = text(),
            _ => {}
        }
    }

    /// True when the method is GET or HEAD.
    pub(super) fn is_get(&self) -> bool {
        matches!(self.method, Some("GET" | "HEAD"))
    }

    /// True when the method is POST.
    pub(super) fn is_post(&self) -> bool {
        self.method == Some("POST")
    }

    /// The draft-cavage value in `Authorization`, without the word `Signature`.
    pub(super) fn authorization_signature(&self) -> Option<&'a str> {
        let (scheme, rest) = self.authorization?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("signature").then_some(rest)
    }

    /// True when the request carries a user's token.
    pub(super) fn has_bearer(&self) -> bool {
        self.authorization.is_some_and(|a| a.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("bearer ")))
    }

    /// True when the request carries anything that calls itself a signature.
    pub(super) fn signed(&self) -> bool {
        !self.signature.is_empty() || !self.signature_input.is_empty() || self.authorization_signature().is_some()
    }
}

/// What matters of a response's head.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Answer<'a> {
    pub(super) media: Media,
    pub(super) content_type: Option<&'a str>,
    pub(super) server: Option<&'a str>,
    pub(super) location: Option<&'a str>,
}

impl<'a> Answer<'a> {
    /// Collects it.
    pub(super) fn new(headers: &'a Headers) -> Self {
        let mut answer = Self::default();
        for (name, value) in headers.iter() {
            let (Some(name), Some(value)) = (name, value) else { continue };
            let slot = match name.len() {
                6 if name.eq_ignore_ascii_case(b"Server") => &mut answer.server,
                8 if name.eq_ignore_ascii_case(b"Location") => &mut answer.location,
                12 if name.eq_ignore_ascii_case(b"Content-Type") => &mut answer.content_type,
                _ => continue,
            };
            *slot = std::str::from_utf8(value).ok().map(str::trim);
        }
        answer.media = answer.content_type.map(Media::parse).unwrap_or_default();
        answer
    }
}

/// Path and query of a target in origin-form or absolute-form (RFC 9112 §3.2); `*` is its own path.
fn split_target(target: &str) -> (Option<&str>, Option<&str>) {
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if !target.starts_with('/') && !scheme.is_empty() => {
            rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    let origin = origin.split_once('#').map_or(origin, |(before, _)| before);
    match origin.split_once('?') {
        Some((path, query)) => (Some(path), Some(query)),
        None => (Some(origin), None),
    }
}

/// An authority without `:443` or `:80`.
pub(super) fn without_default_port(authority: &str) -> &str {
    let authority = authority.trim();
    authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(authority)
}

/// A body's content, if all of it was seen, decoded and kept, and it is not too large to be parsed.
pub(super) fn whole(body: &Body) -> Option<&[u8]> {
    let complete = body.complete && body.holes.is_empty() && body.bytes.len() as u64 == body.size;
    (complete && !body.bytes.is_empty() && body.bytes.len() <= BODY_LIMIT).then_some(&*body.bytes)
}

/// The first value of a parameter in a query, percent-decoded (`+` is a space).
pub(super) fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    let (_, value) = query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name)?;
    let bytes: Vec<u8> = value.bytes().map(|b| if b == b'+' { b' ' } else { b }).collect();
    Some(percent_encoding::percent_decode(&bytes).decode_utf8_lossy().into_owned())
}
