//! The play: two people on two servers follow, write, like, share, take back and delete, and a client looks on and
//! tries a forgery. A step is done when its effect has been seen at the other end, not when it was sent.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::control::Control;
use super::services::{Folders, SERVERS, Server};

/// A step, as it went.
pub(super) struct Step {
    run: u32,
    what: String,
    milliseconds: u128,
    /// What came of it, or why it failed.
    result: Result<Value, String>,
}

impl Step {
    pub(super) fn json(&self) -> Value {
        let (ok, result) = match &self.result {
            Ok(value) => (true, value.clone()),
            Err(why) => (false, json!(why)),
        };
        json!({"run": self.run, "what": self.what, "ms": self.milliseconds as u64, "ok": ok, "result": result})
    }
}

/// One performance.
struct Play<'a> {
    one: Person,
    two: Person,
    client: Control,
    run: u32,
    steps: &'a mut Vec<Step>,
}

/// Somebody on a server.
struct Person {
    control: Control,
    server: &'static Server,
}

impl Person {
    fn new(folders: &Folders, server: &'static Server) -> Result<Self> {
        Ok(Self { control: Control::connect(&folders.run, server.pod)?, server })
    }

    fn name(&self) -> &'static str {
        self.server.user
    }

    /// Waits until an activity with this id has come in.
    fn has_received(&mut self, activity: &Value) -> Result<()> {
        self.control.ask(&json!({"do": "received", "id": activity["id"]})).map(drop)
    }

    /// Asks somebody to follow them, waits until they have it, and until they have accepted.
    fn follow(&mut self, other: &mut Self) -> Result<Value> {
        let before = self.control.ask(&json!({"do": "state"}))?;
        let follow = self.control.ask(&json!({"do": "follow", "who": other.server.actor()}))?;
        other.has_received(&follow)?;
        let accept = json!({
            "do": "received", "type": "Accept", "actor": other.server.actor(), "since": before["received"],
        });
        self.control.ask(&accept)?;
        let after = self.control.ask(&json!({"do": "state"}))?;
        let actor = other.server.actor();
        let follows = after["following"].as_array().is_some_and(|all| all.iter().any(|one| *one == actor));
        ensure!(follows, "{} accepted, and {} does not follow: {after}", other.name(), self.name());
        Ok(follow)
    }

    /// Does something, and waits until the other has it.
    fn tell(&mut self, other: &mut Self, request: &Value) -> Result<Value> {
        let activity = self.control.ask(request)?;
        other.has_received(&activity)?;
        Ok(activity)
    }
}

/// Plays it once. The steps that were played are added to `steps`; the first that fails ends the play.
pub(super) fn play(folders: &Folders, run: u32, steps: &mut Vec<Step>) -> Result<()> {
    let [one, two] = SERVERS else { bail!("the play is for two servers") };
    let mut play = Play {
        one: Person::new(folders, one)?,
        two: Person::new(folders, two)?,
        client: Control::connect(&folders.run, "client")?,
        run,
        steps,
    };
    play.people()?;
    play.strangers()?;
    play.farewell()
}

impl Play<'_> {
    fn step(&mut self, what: String, act: impl FnOnce(&mut Self) -> Result<Value>) -> Result<Value> {
        let begin = Instant::now();
        let result = act(self);
        let milliseconds = begin.elapsed().as_millis();
        let mark = if result.is_ok() { "✓" } else { "✗" };
        println!("  {mark} {what} ({milliseconds} ms)");
        let kept = result.as_ref().map(Clone::clone).map_err(|error| format!("{error:#}"));
        self.steps.push(Step { run: self.run, what: what.clone(), milliseconds, result: kept });
        result.map_err(|error| error.context(what))
    }

    /// What people do.
    fn people(&mut self) -> Result<()> {
        let (fred, wilma) = (self.one.name(), self.two.name());
        self.step(format!("{fred} looks up {wilma}: WebFinger, then the actor"), |p| {
            let handle = format!("@{wilma}@{}", p.two.server.host());
            let found = p.one.control.ask(&json!({"do": "lookup", "what": handle}))?;
            ensure!(found["id"] == p.two.server.actor(), "found somebody else: {found}");
            Ok(found)
        })?;
        self.step(format!("{fred} follows {wilma}, who accepts"), |p| p.one.follow(&mut p.two))?;
        self.step(format!("{wilma} follows {fred}, who accepts"), |p| p.two.follow(&mut p.one))?;
        let post = json!({"do": "post", "content": "<p>Fish soup tonight – <em>bring bread</em>.</p>"});
        let posted = self.step(format!("{fred} writes a note"), |p| p.one.tell(&mut p.two, &post))?;
        let note = &posted["note"];
        let like = json!({"do": "like", "note": note});
        let liked = self.step(format!("{wilma} likes it"), |p| p.two.tell(&mut p.one, &like))?;
        let announce = json!({"do": "announce", "note": note});
        self.step(format!("{wilma} announces it"), |p| p.two.tell(&mut p.one, &announce))?;
        let undo = json!({
            "do": "undoLike", "activity": liked["id"], "note": note, "to": self.one.server.actor(),
        });
        self.step(format!("{wilma} takes the like back"), |p| p.two.tell(&mut p.one, &undo))?;
        let reply = json!({"do": "post", "content": "<p>I have some.</p>", "replyTo": note});
        self.step(format!("{wilma} replies"), |p| p.two.tell(&mut p.one, &reply))?;
        let delete = json!({"do": "delete", "note": note});
        self.step(format!("{fred} deletes the note"), |p| p.one.tell(&mut p.two, &delete))?;
        let url = note.as_str().unwrap_or_default().to_owned();
        self.step("the client asks for the deleted note: 410".into(), |p| p.fetch(&url, "identity", 410))?;
        Ok(())
    }

    /// What the client pod does.
    fn strangers(&mut self) -> Result<()> {
        let actors = [self.one.server.actor(), self.two.server.actor()];
        for (actor, coding) in
            actors.iter().flat_map(|actor| [(actor, "br"), (actor, "gzip"), (actor, "identity")])
        {
            self.step(format!("the client fetches {actor} as {coding}"), |p| {
                let answer = p.fetch(actor, coding, 200)?;
                let got = answer["coding"].as_str().unwrap_or("identity");
                ensure!(got == coding, "asked for {coding}, got {got}");
                Ok(answer)
            })?;
        }
        for server in SERVERS {
            let host = server.host();
            let about = format!("https://{host}/nodeinfo/2.1");
            self.step(format!("the client asks {host} what it runs"), |p| p.fetch(&about, "gzip", 200))?;
            let who = format!("https://{host}/.well-known/webfinger?resource=acct%3Anobody%40{host}");
            self.step(format!("the client asks {host} for nobody: 404"), |p| p.fetch(&who, "gzip", 404))?;
        }
        self.step("the client forges a like, which is refused: 401".into(), |p| {
            let forgery = json!({
                "do": "forge",
                "inbox": format!("{}/inbox", p.one.server.actor()),
                "actor": p.two.server.actor(),
                "object": p.one.server.actor(),
            });
            let answer = p.client.ask(&forgery)?;
            ensure!(answer["status"] == 401, "answered {}", answer["status"]);
            Ok(answer)
        })?;
        Ok(())
    }

    /// As it was before, so that it can be played again.
    fn farewell(&mut self) -> Result<()> {
        let (fred, wilma) = (self.one.name(), self.two.name());
        let follow_of = |steps: &[Step], run: u32, who: &str| {
            let begin = format!("{who} follows");
            let step = steps.iter().find(|step| step.run == run && step.what.starts_with(&begin));
            step.and_then(|step| step.result.as_ref().ok()).map(|result| result["id"].clone())
        };
        let (by_fred, by_wilma) =
            (follow_of(self.steps, self.run, fred), follow_of(self.steps, self.run, wilma));
        let undo = json!({"do": "unfollow", "who": self.two.server.actor(), "activity": by_fred});
        self.step(format!("{fred} no longer follows {wilma}"), |p| p.one.tell(&mut p.two, &undo))?;
        let undo = json!({"do": "unfollow", "who": self.one.server.actor(), "activity": by_wilma});
        self.step(format!("{wilma} no longer follows {fred}"), |p| p.two.tell(&mut p.one, &undo))?;
        for person in [&mut self.one, &mut self.two] {
            let state = person.control.ask(&json!({"do": "state"}))?;
            let alone = |key: &str| state[key].as_array().is_some_and(Vec::is_empty);
            ensure!(alone("followers") && alone("following"), "{} is still known: {state}", person.name());
        }
        Ok(())
    }

    fn fetch(&mut self, url: &str, coding: &str, status: u16) -> Result<Value> {
        let request = json!({
            "do": "fetch",
            "url": url,
            "headers": {
                "Accept": "application/activity+json",
                "Accept-Encoding": coding,
                "User-Agent": "fedisniff-lab-client/1.0.0",
            },
        });
        let answer = self.client.ask(&request)?;
        ensure!(answer["status"] == status, "{url} answered {}, not {status}", answer["status"]);
        Ok(answer)
    }
}
