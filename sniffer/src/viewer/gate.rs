//! What every request passes: its host, method and token are looked at before anything else is, then it goes to the
//! API, the metrics or the pages, and every answer leaves with the same protective headers. Refusals are made here.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Options, Viewer, api, assets, metrics};

/// Only what this server serves; no inline code or style, no frames, no plug-ins.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
);

/// Who may ask.
pub(super) struct Gate {
    token: Option<Token>,
    allow_hosts: Vec<String>,
    /// Without a slash at its end: empty, or `/sniffer`.
    base_path: String,
}

/// A token is never compared as text: hashes of it are, so that the time tells nothing of it.
struct Token {
    hash: [u8; 32],
    /// Browsers keep cookies by host without regard to the port, and two viewers may run on one host.
    cookie_name: String,
    cookie_value: String,
}

impl Gate {
    pub(super) fn new(options: &Options) -> Self {
        let token = options.token.as_deref().filter(|t| !t.is_empty()).map(|token| {
            let hash = Sha256::digest(token).into();
            let cookie: [u8; 32] = Sha256::digest(format!("fedisniff cookie {token}")).into();
            let hex = crate::view::hex(&cookie);
            let (name, value) = hex.split_at(8);
            Token { hash, cookie_name: format!("fedisniff-{name}"), cookie_value: value.to_owned() }
        });
        let base_path = options.base_path.trim_matches('/');
        Self {
            token,
            allow_hosts: options.allow_hosts.iter().map(|h| host_name(h).to_ascii_lowercase()).collect(),
            base_path: if base_path.is_empty() { String::new() } else { format!("/{base_path}") },
        }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Against DNS rebinding: a name that an attacker owns may point to this server, an address cannot.
    fn host_is_ours(&self, request: &Request) -> bool {
        let ours = |authority: &str| {
            let name = host_name(authority).to_ascii_lowercase();
            name == "localhost" || name.parse::<IpAddr>().is_ok() || self.allow_hosts.contains(&name)
        };
        // An absolute-form target goes before the Host field (RFC 9112 §3.2.2); neither may lie.
        let in_target = request.uri().authority().is_none_or(|authority| ours(authority.as_str()));
        let mut fields = request.headers().get_all(header::HOST).iter();
        let in_field = fields.next().and_then(|h| h.to_str().ok()).is_some_and(ours);
        in_target && in_field && fields.next().is_none()
    }

    fn authorised(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
        });
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok());
        bearer.is_some_and(|given| token.is(given))
            || cookies
                .flat_map(|value| value.split(';'))
                .filter_map(|pair| pair.trim().split_once('='))
                .any(|(name, value)| name == token.cookie_name && same(value, &token.cookie_value))
    }

    /// Whether secrets may be shown. Without a token only to this machine itself, and not through a proxy, which
    /// would make everyone look like this machine.
    fn may_unmask(&self, headers: &HeaderMap, peer: SocketAddr) -> bool {
        let proxied =
            ["x-forwarded-for", "forwarded", "x-real-ip", "via"].iter().any(|h| headers.contains_key(*h));
        self.token.is_some() || (peer.ip().to_canonical().is_loopback() && !proxied)
    }

    /// The path as this server knows it, whether or not a proxy cut off the base path.
    fn inner_path<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(&*self.base_path) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => path,
        }
        .trim_start_matches('/')
    }

    /// Where the page lives, with a slash at its end.
    pub(super) fn base(&self, headers: &HeaderMap) -> String {
        let harmless = |prefix: &str| {
            let characters = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
            prefix.starts_with('/') && !prefix.contains("//") && prefix.bytes().all(characters)
        };
        let prefix = headers.get("x-forwarded-prefix").and_then(|v| v.to_str().ok());
        let prefix = prefix.map(|p| p.split(',').next().unwrap_or_default().trim());
        match prefix.filter(|p| harmless(p)) {
            Some(prefix) => format!("{}/", prefix.trim_end_matches('/')),
            None => format!("{}/", self.base_path),
        }
    }
}

impl Token {
    fn is(&self, given: &str) -> bool {
        // Comparing hashes of both leaks nothing that helps to find the token.
        let given: [u8; 32] = Sha256::digest(given).into();
        given == self.hash
    }
}

fn same(given: &str, wanted: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(wanted)
}

/// `name` of `name:port`, `::1` of `[::1]:port`, without the dot that ends an absolute name.
fn host_name(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    let host = match authority.rsplit_once(':') {
        // More than one colon and no brackets: an address without a port.
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// A request that passed the gate, as far as the API needs it.
pub(super) struct Asked {
    pub(super) parameters: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) may_unmask: bool,
}

impl Asked {
    /// A query parameter; one that is there but empty counts as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
}

/// Answers every request.
pub(super) async fn answer(
    State(viewer): State<Viewer>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let mut response = route(&viewer, peer, request).await.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

async fn route(viewer: &Viewer, peer: SocketAddr, request: Request) -> Result<Response, Refusal> {
    let gate = &viewer.shared.gate;
    if !gate.host_is_ours(&request) {
        return Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "bad-request",
            "this host name is not served here",
        )
        .help("allow it with --allow-host NAME, or use an address or localhost"));
    }
    let (parts, _) = request.into_parts();
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "bad-request", "only GET is understood"));
    }
    let path = gate.inner_path(parts.uri.path());
    let parameters = parameters(&parts.uri)?;
    if let Some(path) = path.strip_prefix("api/") {
        if !gate.authorised(&parts.headers) {
            return Err(unauthorised("a token is needed"));
        }
        let may_unmask = gate.may_unmask(&parts.headers, peer);
        return api::answer(viewer, path, Asked { parameters, headers: parts.headers, may_unmask }).await;
    }
    if path == "metrics" {
        if !gate.authorised(&parts.headers) {
            return Err(unauthorised("a token is needed"));
        }
        return metrics::answer(viewer).await;
    }
    if !assets::is_page(path) {
        return assets::file(path);
    }
    match parameters.iter().position(|(name, _)| name == "token") {
        Some(place) => Ok(enter(gate, path, parameters, place, &parts.headers)),
        None => Ok(assets::page(&gate.base(&parts.headers))),
    }
}

fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    match Query::try_from_uri(uri) {
        Ok(Query(parameters)) => Ok(parameters),
        Err(e) => Err(Refusal::bad_request(format!("the query cannot be read: {e}"))),
    }
}

/// Takes the token out of the address, where it would stay in the history, into a cookie. A wrong one sets none; the
/// page then learns from the API that it is not welcome.
fn enter(
    gate: &Gate,
    path: &str,
    mut parameters: Vec<(String, String)>,
    place: usize,
    headers: &HeaderMap,
) -> Response {
    let (_, given) = parameters.swap_remove(place);
    let base = gate.base(headers);
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let rest: Vec<String> = parameters.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    let mut response =
        (StatusCode::SEE_OTHER, [(header::LOCATION, format!("{base}{path}{query}"))]).into_response();
    if let Some(token) = gate.token.as_ref().filter(|token| token.is(&given)) {
        let secure =
            headers.get("x-forwarded-proto").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"https"));
        let cookie = format!(
            "{}={}; Path={base}; HttpOnly; SameSite=Strict{}",
            token.cookie_name,
            token.cookie_value,
            if secure { "; Secure" } else { "" }
        );
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// A refusal: a status, and the JSON that says why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: ErrorView,
}

#[derive(Debug, Serialize)]
struct ErrorView {
    code: &'static str,
    message: String,
    line: Option<usize>,
    column: Option<usize>,
    help: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            error: ErrorView { code, message: message.into(), line: None, column: None, help: None },
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).help("try again in a moment")
    }

    pub(super) fn help(mut self, help: &'static str) -> Self {
        self.error.help = Some(help);
        self
    }
}

pub(super) fn unauthorised(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        .help("open the address that fedisniff printed, with ?token=, or send Authorization: Bearer TOKEN")
}

impl From<crate::filter::FilterError> for Refusal {
    fn from(error: crate::filter::FilterError) -> Self {
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, "bad-filter", error.message)
            .help("api/fields lists what a filter may name");
        refusal.error.line = Some(error.line);
        refusal.error.column = Some(error.column);
        refusal
    }
}

impl From<crate::store::Error> for Refusal {
    fn from(error: crate::store::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store", error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: ErrorView,
        }
        let mut response = (self.status, axum::Json(Body { error: self.error })).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
            }
            // RFC 9110 §15.5.2: a 401 names a scheme.
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => None,
        };
        response
    }
}
