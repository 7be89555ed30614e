//! The readers, joined: takes an exchange apart once, decides its kind, says what it meant, and lets the memory learn
//! from it. What was not seen is said to be unknown.

use std::borrow::Cow;

use super::cause::Causes;
use super::classify::{self, Evidence};
use super::document::Node;
use super::documents::Documents;
use super::head::{Answer, Head, Media};
use super::learn::{self, Learnt};
use super::place::{self, Guess};
use super::sentence::Outcome;
use super::teach::teach;
use super::{Kind, Reading, Sentence, activity, cause, delivery, digest, fetch, lints, names, origin, reason, signature};
use crate::http::{Exchange, Request};

/// Reads exchanges, in order of their completion, and remembers what helps with later ones (keys, actors, inboxes,
/// who sits behind which address), within bounds.
#[derive(Debug, Default)]
pub struct Reader {
    pub(super) learnt: Learnt,
    causes: Causes,
    documents: Documents,
}

/// One exchange with everything that the sentences need.
pub(super) struct Scene<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) head: &'a Head<'a>,
    pub(super) answer: &'a Answer<'a>,
    /// Who asked, as written in sentences: host, else address.
    pub(super) from: &'a str,
    /// Who was asked.
    pub(super) to: &'a str,
    pub(super) guess: Guess<'a>,
    /// The target's page with and without the query, as [`learn::key`] makes it.
    pub(super) key: String,
    pub(super) base_key: String,
    pub(super) sent: Option<&'a Node<'a>>,
    pub(super) answered: Option<&'a Node<'a>>,
    /// It was a browser that asked.
    pub(super) browser: bool,
}

impl Scene<'_> {
    /// The host that was asked, or nothing.
    pub(super) fn host(&self) -> &str {
        self.head.host.unwrap_or(self.to)
    }

    /// The target as a URL. The scheme is https: what comes in the clear was decrypted by the proxy.
    pub(super) fn url(&self) -> String {
        let query = self.head.query.map(|q| format!("?{q}")).unwrap_or_default();
        format!("https://{}{}{query}", self.host(), self.head.path.unwrap_or_default())
    }

    /// The target as written in sentences.
    pub(super) fn page(&self) -> String {
        names::thing(&self.url())
    }

    /// A sentence about asking, with how it ended.
    pub(super) fn ask(&self, template: impl Into<Cow<'static, str>>, slots: &[(&'static str, &str)]) -> Sentence {
        let outcome = fetch::outcome(self.exchange);
        let status = self.exchange.response.as_ref().and_then(|r| r.status).filter(|_| outcome != Outcome::Fine);
        let status = status.map(|s| s.to_string());
        let mut all: Vec<(&'static str, &str)> = Vec::with_capacity(slots.len().saturating_add(3));
        all.extend([("from", self.from), ("to", self.to)]);
        all.extend_from_slice(slots);
        all.extend(status.as_deref().map(|status| ("status", status)));
        Sentence::new(outcome.template(template.into()), &all)
    }
}

impl Reader {
    /// With nothing learnt.
    pub fn new() -> Self {
        Self::default()
    }

    /// What this exchange meant. Learns from it.
    pub fn read(&mut self, exchange: &Exchange) -> Reading {
        match &exchange.request {
            Some(request) => self.asked(exchange, request),
            None => self.lone(exchange),
        }
    }

    /// A response whose request was not seen: what it holds is said, what it answers is not guessed.
    fn lone(&mut self, exchange: &Exchange) -> Reading {
        let mut reading = Reading::unknown();
        let Some(response) = &exchange.response else { return reading };
        let learnt = &mut self.learnt;
        let to = learnt
            .host_served(exchange.ends.server)
            .map_or_else(|| exchange.ends.server.to_string(), String::from);
        let answer = Answer::new(&response.message.headers);
        let body = Some(&response.message.body).filter(|_| answer.media.has(Media::ASISH));
        let node = body.and_then(|body| self.documents.parse(body));
        reading.sentence = match (node.as_deref(), response.status) {
            (Some(node), _) if node.is_actor() && node.id.is_some() => {
                let name = names::actor(node.id.as_deref().unwrap_or_default(), learnt);
                Sentence::new("response.lone.actor", &[("to", &to), ("actor", &name)])
            }
            (Some(node), _) if node.is_collection() => {
                let object = node.id.as_deref().map_or_else(|| "?".to_owned(), names::thing);
                Sentence::new("response.lone.collection", &[("to", &to), ("object", &object)])
            }
            (Some(node), _) if !node.types.is_empty() => {
                let r#type = node.type_in(activity::known_type).unwrap_or_default();
                Sentence::new("response.lone.object", &[("to", &to), ("type", r#type)])
            }
            (_, Some(status)) => {
                Sentence::new("response.lone", &[("to", &to), ("status", &status.to_string())])
            }
            (_, None) => Sentence::new("response.lone.unknown", &[("to", &to)]),
        };
        reading.signature.explanation = Some("the request was not seen".into());
        reading
    }

    fn asked(&mut self, exchange: &Exchange, request: &Request) -> Reading {
        let learnt = &mut self.learnt;
        let head = Head::new(request);
        let response = exchange.response.as_ref();
        let status = response.and_then(|r| r.status);
        let answer = response.map(|r| Answer::new(&r.message.headers)).unwrap_or_default();

        let (signature, form) = signature::read(&head);
        let digest = digest::check(&head, &request.message.body);
        let agent = head.user_agent.map(|text| learnt.agent(text)).unwrap_or_default();
        let refused = status.is_some_and(|s| s >= 400);
        let origin = origin::find(&head, &agent, &signature, exchange.ends.client, refused, learnt);
        if let Some(host) = head.host {
            learnt.server(exchange.ends.server, host);
        }

        let path = head.path.unwrap_or_default();
        let guess = place::guess(path);
        let (base_key, key) = keys(&head);
        let role = learnt.known_role(&base_key).or_else(|| learnt.known_role(&key));
        let is_key = learnt.keys.get(&*key).is_some();

        let documents = &mut self.documents;
        let sent = may_be_activity(&head).then(|| documents.parse(&request.message.body)).flatten();
        let fine = status.is_some_and(|s| (200..300).contains(&s));
        let answered = response
            .filter(|_| fine && wants_document(&head, &answer, path))
            .and_then(|r| documents.parse(&r.message.body));

        let evidence = Evidence {
            head: &head,
            agent: &agent,
            answer: &answer,
            sent: sent.as_deref(),
            answered: answered.as_deref(),
            guess,
            role,
            key: is_key,
            server: origin.host.is_some(),
            websocket: exchange.websocket.is_some(),
        };
        let kind = classify::kind(&evidence);
        let federation = classify::federation(kind, &evidence);
        let browser = evidence.is_client() && agent.browser;

        let from = origin
            .host
            .as_deref()
            .or(origin.address.as_deref())
            .map_or_else(|| exchange.ends.client.ip().to_string(), ToOwned::to_owned);
        let to = match head.host {
            Some(host) => host.to_ascii_lowercase(),
            None => learnt
                .host_served(exchange.ends.server)
                .map_or_else(|| exchange.ends.server.to_string(), String::from),
        };
        let scene = Scene {
            exchange,
            head: &head,
            answer: &answer,
            from: &from,
            to: &to,
            guess,
            key,
            base_key,
            sent: sent.as_deref(),
            answered: answered.as_deref(),
            browser,
        };
        teach(kind, &scene, &signature, status, learnt);

        let delivered = matches!(kind, Kind::InboxDelivery | Kind::OutboxPost);
        let activity = sent
            .as_deref()
            .filter(|node| delivered && (node.is_activity() || node.type_in(|_| false).is_some()))
            .map(|node| activity::read(node, learnt));
        let sentence = match kind {
            Kind::InboxDelivery => {
                delivery::sentence(&scene, &request.message.body, activity.as_ref(), learnt)
            }
            Kind::OutboxPost => delivery::outbox(&scene, learnt),
            _ => fetch::sentence(kind, &scene, learnt),
        };
        let lints = lints::check(&lints::Case {
            kind,
            scene: &scene,
            status,
            headers: &request.message.headers,
            body: &request.message.body,
            signature: &signature,
            form,
            digest,
        });
        let reason = reason::find(
            &reason::Case {
                kind,
                scene: &scene,
                status,
                signature: &signature,
                form,
                digest: digest.digest,
                lints: &lints,
                answer: response.map(|r| &r.message.body),
            },
            learnt,
        );
        let links = if federation {
            self.causes.tie(&cause::Case {
                exchange,
                kind,
                from: origin.host.as_deref(),
                to: scene.to,
                page: head.host.and_then(|host| scene.key.get(host.len()..)).unwrap_or_default(),
                key_id: signature.key_id.as_deref(),
                activity: activity.as_ref(),
            })
        } else {
            cause::Links::default()
        };
        Reading {
            kind,
            sentence,
            activity,
            signature,
            digest: digest.digest,
            origin: Some(origin),
            lints,
            reason,
            federation,
            caused_by: links.caused_by,
            caused: links.caused,
        }
    }
}

/// The target's page as keys of the memory: without and with the query.
fn keys(head: &Head<'_>) -> (String, String) {
    let (Some(host), Some(path)) = (head.host, head.path) else { return (String::new(), String::new()) };
    let base = learn::key(host, path);
    let full = match head.query {
        Some(query) => format!("{base}?{query}"),
        None => base.clone(),
    };
    (base, full)
}

/// Whether the request's body may be an activity.
fn may_be_activity(head: &Head<'_>) -> bool {
    let path = head.path.unwrap_or_default();
    let tail = path.strip_suffix('/').unwrap_or(path);
    head.content_type.has(Media::ASISH)
        || ((head.is_post() || head.method.is_none())
            && (head.path.is_none() || tail.ends_with("/inbox") || tail.ends_with("/outbox")))
}

/// Whether the answer may be a document that tells something.
fn wants_document(head: &Head<'_>, answer: &Answer<'_>, path: &str) -> bool {
    if !answer.media.has(Media::ANY_JSON) || head.method.is_some_and(|m| m != "GET") {
        return false;
    }
    let api = path.starts_with("/api/") && !path.contains("nodeinfo");
    answer.media.has(Media::ASISH) || !api && !head.has_bearer()
}
