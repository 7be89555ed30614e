//! Sentences: whole templates in English and Japanese with slots, never words glued together by the reader. The
//! command line and the viewer render the same table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::Sentence;
use super::activity::hidden;

/// A language of the faces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Japanese.
    Japanese,
}

/// Characters of a slot's value; longer ones are cut, with an ellipsis.
const SLOT: usize = 200;

impl Sentence {
    /// The sentence in English.
    pub fn render(&self) -> String {
        self.render_in(Language::English)
    }

    /// The sentence in a language. A template that this version does not know is shown by its name and slots.
    pub fn render_in(&self, language: Language) -> String {
        let Some((english, japanese)) = template(&self.template) else {
            let slots: Vec<&str> = self.slots.iter().map(|(_, value)| &**value).collect();
            return format!("{} ({})", self.template, slots.join(", "));
        };
        let mut rest = match language {
            Language::English => english,
            Language::Japanese => japanese,
        };
        let values = self.slots.iter().map(|(_, value)| value.len());
        let mut text = String::with_capacity(values.fold(rest.len(), usize::saturating_add));
        while let Some((before, slot, after)) = next_slot(rest) {
            text.push_str(before);
            match self.slots.iter().find(|(name, _)| **name == *slot) {
                Some((_, value)) => text.push_str(value),
                None => text.push('?'),
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }

    /// A sentence. Values are made fit for showing: bounded, without control characters.
    pub(super) fn new(template: impl Into<Cow<'static, str>>, slots: &[(&'static str, &str)]) -> Self {
        let slots = slots.iter().map(|(name, value)| ((*name).into(), shown(value, SLOT).into())).collect();
        Self { template: template.into(), slots }
    }
}

fn next_slot(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (slot, after) = rest.split_once('}')?;
    Some((before, slot, after))
}

/// The two texts of a template.
fn template(name: &str) -> Option<(&'static str, &'static str)> {
    static BY_NAME: LazyLock<HashMap<&'static str, (&'static str, &'static str)>> = LazyLock::new(|| {
        TEMPLATES.iter().map(|(name, english, japanese)| (*name, (*english, *japanese))).collect()
    });
    BY_NAME.get(name).copied()
}

/// Text from the wire as it may be shown: at most so many characters, controls replaced.
pub(super) fn shown(text: &str, most: usize) -> String {
    // What is short and plain, nearly everything, is copied as it is.
    if text.len() <= most && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return text.to_owned();
    }
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= most {
            out.push('…');
            break;
        }
        out.push(if hidden(c) { '\u{fffd}' } else { c });
    }
    out
}

/// How asking for something ended, as the tail of a template's name. Nothing is added where it went well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Fine,
    Elsewhere,
    Refused,
    Absent,
    Gone,
    Limited,
    Rejected,
    Failed,
    /// The one who asked went away before the answer (499, as nginx and GoToSocial note it).
    Abandoned,
    /// The connection ended without an answer.
    Unanswered,
    /// Whether there was an answer is not known.
    Unseen,
}

impl Outcome {
    /// From a status code.
    pub(super) fn of(status: u16) -> Self {
        match status {
            304 => Self::Fine,
            300..=399 => Self::Elsewhere,
            401 | 403 => Self::Refused,
            404 => Self::Absent,
            410 => Self::Gone,
            429 => Self::Limited,
            499 => Self::Abandoned,
            400..=499 => Self::Rejected,
            500..=599 => Self::Failed,
            _ => Self::Fine,
        }
    }

    fn tail(self) -> &'static str {
        match self {
            Self::Fine => "",
            Self::Elsewhere => ".elsewhere",
            Self::Refused => ".refused",
            Self::Absent => ".absent",
            Self::Gone => ".gone",
            Self::Limited => ".limited",
            Self::Rejected => ".rejected",
            Self::Failed => ".failed",
            Self::Abandoned => ".abandoned",
            Self::Unanswered => ".unanswered",
            Self::Unseen => ".unseen",
        }
    }

    /// The template's name for this outcome.
    pub(super) fn template(self, name: Cow<'static, str>) -> Cow<'static, str> {
        let tail = self.tail();
        if tail.is_empty() {
            return name;
        }
        let mut full = String::with_capacity(name.len().saturating_add(tail.len()));
        full.push_str(&name);
        full.push_str(tail);
        full.into()
    }
}

/// What a thing is called in the templates that exist for each noun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noun {
    Note,
    Poll,
    Article,
    Page,
    Picture,
    Video,
    Sound,
    Event,
    /// Something posted, its type unknown.
    Post,
    /// Of another type, which is named.
    Type,
}

impl Noun {
    /// From an object's type.
    pub(super) fn of(r#type: &str) -> Self {
        match r#type {
            "Note" => Self::Note,
            "Question" => Self::Poll,
            "Article" => Self::Article,
            "Page" => Self::Page,
            "Image" => Self::Picture,
            "Video" => Self::Video,
            "Audio" => Self::Sound,
            "Event" => Self::Event,
            "" | "Tombstone" | "Object" => Self::Post,
            _ => Self::Type,
        }
    }

    /// The template's name for this noun.
    pub(super) fn template(self, name: &str) -> String {
        let tail = match self {
            Self::Note => ".note",
            Self::Poll => ".poll",
            Self::Article => ".article",
            Self::Page => ".page",
            Self::Picture => ".picture",
            Self::Video => ".video",
            Self::Sound => ".sound",
            Self::Event => ".event",
            Self::Post => ".post",
            Self::Type => ".type",
        };
        format!("{name}{tail}")
    }
}

macro_rules! templates {
    (
        plain { $(($name:literal, $en:literal, $ja:literal),)* }
        asked { $(($asked:literal, $asked_en:literal, $asked_ja:literal),)* }
        nouns { $(($noun:literal, $en1:literal _ $en2:literal, $ja1:literal _ $ja2:literal),)* }
    ) => {
        /// Every template: its stable name, the English and the Japanese text. Slots are in braces; both texts have
        /// the same ones. A tail such as `.refused` or `.absent` says how the asking ended, one such as `.note` or
        /// `.poll` what it was about.
        pub const TEMPLATES: &[(&str, &str, &str)] = &[
            $(($name, $en, $ja),)*
            $(
                ($asked, $asked_en, $asked_ja),
                (concat!($asked, ".elsewhere"), concat!($asked_en, ", and is sent elsewhere ({status})"), concat!($asked_ja, "、転送（{status}）")),
                (concat!($asked, ".refused"), concat!($asked_en, ", but is refused ({status})"), concat!($asked_ja, "、拒否（{status}）")),
                (concat!($asked, ".absent"), concat!($asked_en, ", but it is not found ({status})"), concat!($asked_ja, "、見つからず（{status}）")),
                (concat!($asked, ".gone"), concat!($asked_en, ", but it is gone ({status})"), concat!($asked_ja, "、削除済み（{status}）")),
                (concat!($asked, ".limited"), concat!($asked_en, ", but is told to slow down ({status})"), concat!($asked_ja, "、回数制限（{status}）")),
                (concat!($asked, ".rejected"), concat!($asked_en, ", but the request is rejected ({status})"), concat!($asked_ja, "、受け付けられず（{status}）")),
                (concat!($asked, ".failed"), concat!($asked_en, ", but the server fails ({status})"), concat!($asked_ja, "、サーバーエラー（{status}）")),
                (
                    concat!($asked, ".abandoned"),
                    concat!($asked_en, ", but gives up before the answer ({status})"),
                    concat!($asked_ja, "、応答前に断念（{status}）"),
                ),
                (concat!($asked, ".unanswered"), concat!($asked_en, ", but no answer comes"), concat!($asked_ja, "、応答なし")),
                (concat!($asked, ".unseen"), concat!($asked_en, "; the answer was not seen"), concat!($asked_ja, "、応答は未観測")),
            )*
            $(
                (concat!($noun, ".note"), concat!($en1, "a note", $en2), concat!($ja1, "投稿", $ja2)),
                (concat!($noun, ".poll"), concat!($en1, "a poll", $en2), concat!($ja1, "アンケート", $ja2)),
                (concat!($noun, ".article"), concat!($en1, "an article", $en2), concat!($ja1, "記事", $ja2)),
                (concat!($noun, ".page"), concat!($en1, "a page", $en2), concat!($ja1, "ページ", $ja2)),
                (concat!($noun, ".picture"), concat!($en1, "a picture", $en2), concat!($ja1, "画像", $ja2)),
                (concat!($noun, ".video"), concat!($en1, "a video", $en2), concat!($ja1, "動画", $ja2)),
                (concat!($noun, ".sound"), concat!($en1, "a sound", $en2), concat!($ja1, "音声", $ja2)),
                (concat!($noun, ".event"), concat!($en1, "an event", $en2), concat!($ja1, "イベント", $ja2)),
                (concat!($noun, ".post"), concat!($en1, "a post", $en2), concat!($ja1, "投稿", $ja2)),
                (concat!($noun, ".type"), concat!($en1, "an object of type {type}", $en2), concat!($ja1, " {type} オブジェクト", $ja2)),
            )*
        ];
    };
}

templates! {
    plain {
        ("unknown", "an exchange of which too little was seen", "断片しか観測できなかったやりとり"),
        ("request.unknown", "{from} asks {to} for something; what was not seen", "{from} が {to} にリクエスト、内容は未観測"),
        ("request.unknown.method", "{from} sends {method} to {to}; for what was not seen", "{from} が {to} に {method} を送信、対象は未観測"),
        ("response.lone", "{to} answers {status}; the request was not seen", "{to} が {status} を応答、リクエストは未観測"),
        ("response.lone.unknown", "{to} answers; neither the request nor the status was seen", "{to} が応答、リクエストと応答コードは未観測"),
        ("response.lone.actor", "{to} answers with the actor {actor}; the request was not seen", "{to} が {actor} のアクターを応答、リクエストは未観測"),
        ("response.lone.collection", "{to} answers with a collection ({object}); the request was not seen", "{to} がコレクション（{object}）を応答、リクエストは未観測"),
        ("response.lone.object", "{to} answers with an object of type {type}; the request was not seen", "{to} が {type} オブジェクトを応答、リクエストは未観測"),
        ("delivery.unseen", "{from} delivers an activity to {recipient}; its body was not wholly seen", "{from} が {recipient} にアクティビティを配送、本文は一部未観測"),
        ("delivery.unreadable", "{from} delivers something to {recipient} that is not JSON", "{from} が {recipient} に JSON でないものを配送"),
        ("delivery.empty", "{from} delivers nothing to {recipient}: the body is empty", "{from} が {recipient} に空の本文を配送"),
        ("delivery.large", "{from} delivers an activity to {recipient} that is too large to be read here", "{from} が {recipient} に大きすぎて読めないアクティビティを配送"),
        ("delivery.untyped", "{from} delivers JSON without a type to {recipient}", "{from} が {recipient} に type のない JSON を配送"),
        ("delivery.bare", "{from} delivers a bare object of type {type} to {recipient}", "{from} が {recipient} に {type} をそのまま配送"),
        ("delivery.collection", "{from} delivers a collection of activities to {recipient}", "{from} が {recipient} にアクティビティのコレクションを配送"),
        ("activity.other", "{actor} sends an activity of type {type} to {recipient}", "{actor} が {recipient} に {type} アクティビティを送信"),
        ("follow.ask", "{actor} asks to follow {object}", "{actor} が {object} にフォローを申請"),
        ("follow.ask.unknown", "{actor} asks to follow someone at {recipient}", "{actor} が {recipient} の誰かにフォローを申請"),
        ("follow.relay", "{actor} subscribes to the relay {recipient}", "{actor} がリレー {recipient} の購読を申請"),
        ("follow.accept", "{actor} accepts the follow by {follower}", "{actor} が {follower} のフォローを承認"),
        ("follow.reject", "{actor} rejects the follow by {follower}", "{actor} が {follower} のフォローを拒否"),
        ("follow.undo", "{actor} unfollows {object}", "{actor} が {object} のフォローを解除"),
        ("relay.accept", "{actor} accepts the subscription of {follower}", "{actor} が {follower} のリレー購読を承認"),
        ("relay.leave", "{actor} leaves the relay {recipient}", "{actor} がリレー {recipient} の購読を解除"),
        ("accept.type", "{actor} accepts the {type} by {author}", "{actor} が {author} の {type} を承認"),
        ("accept.object", "{actor} accepts {object}", "{actor} が {object} を承認"),
        ("accept.unknown", "{actor} accepts something of {recipient}", "{actor} が {recipient} の何かを承認"),
        ("accept.like", "{actor} accepts the like by {author}", "{actor} が {author} のいいねを承認"),
        ("accept.reply", "{actor} accepts the reply by {author}", "{actor} が {author} の返信を承認"),
        ("accept.boost", "{actor} accepts the boost by {author}", "{actor} が {author} のブーストを承認"),
        ("reject.like", "{actor} rejects the like by {author}", "{actor} が {author} のいいねを拒否"),
        ("reject.reply", "{actor} rejects the reply by {author}", "{actor} が {author} の返信を拒否"),
        ("reject.boost", "{actor} rejects the boost by {author}", "{actor} が {author} のブーストを拒否"),
        ("accept.quote", "{actor} lets {author} quote a post", "{actor} が {author} に投稿の引用を許可"),
        ("reject.quote", "{actor} does not let {author} quote a post", "{actor} が {author} の投稿の引用を拒否"),
        ("reject.type", "{actor} rejects the {type} by {author}", "{actor} が {author} の {type} を拒否"),
        ("reject.object", "{actor} rejects {object}", "{actor} が {object} を拒否"),
        ("reject.unknown", "{actor} rejects something of {recipient}", "{actor} が {recipient} の何かを拒否"),
        ("create.vote", "{actor} votes in a poll by {author}", "{actor} が {author} のアンケートに投票"),
        ("create.vote.unknown", "{actor} votes in the poll {object}", "{actor} がアンケート {object} に投票"),
        ("create.chat", "{actor} sends a chat message to {recipient}", "{actor} が {recipient} にチャットを送信"),
        ("create.reply.object", "{actor} replies to {object}", "{actor} が {object} に返信"),
        ("create.object", "{actor} posts {object} to {recipient}", "{actor} が {recipient} に {object} を投稿"),
        ("create.unknown", "{actor} posts something to {recipient}", "{actor} が {recipient} に何かを投稿"),
        ("update.actor", "{actor} updates their profile", "{actor} がプロフィールを更新"),
        ("update.profile", "{actor} updates the profile of {object}", "{actor} が {object} のプロフィールを更新"),
        ("update.question", "{actor} updates a poll", "{actor} がアンケートを更新"),
        ("update.object", "{actor} updates {object}", "{actor} が {object} を更新"),
        ("update.unknown", "{actor} updates something", "{actor} が何かを更新"),
        ("delete.actor", "{actor} deletes their account", "{actor} がアカウントを削除"),
        ("delete.account", "{actor} deletes the account {object}", "{actor} がアカウント {object} を削除"),
        ("delete.object", "{actor} deletes {object}", "{actor} が {object} を削除"),
        ("delete.unknown", "{actor} deletes something", "{actor} が何かを削除"),
        ("like.object", "{actor} likes {object}", "{actor} が {object} にいいね"),
        ("like.unknown", "{actor} likes something", "{actor} が何かにいいね"),
        ("react.object", "{actor} reacts with {emoji} to {object}", "{actor} が {object} に {emoji} でリアクション"),
        ("react.unknown", "{actor} reacts with {emoji}", "{actor} が {emoji} でリアクション"),
        ("dislike.object", "{actor} dislikes {object}", "{actor} が {object} によくないね"),
        ("dislike.unknown", "{actor} dislikes something", "{actor} が何かによくないね"),
        ("boost.object", "{actor} boosts {object}", "{actor} が {object} をブースト"),
        ("boost.unknown", "{actor} boosts something", "{actor} が何かをブースト"),
        ("boost.relay", "the relay {actor} passes on {object}", "リレー {actor} が {object} を転送"),
        ("boost.activity", "{actor} passes on a {type} by {author}", "{actor} が {author} の {type} を転送"),
        ("undo.object", "{actor} takes back {object}", "{actor} が {object} を取り消し"),
        ("undo.unknown", "{actor} takes back something", "{actor} が何かを取り消し"),
        ("undo.type", "{actor} takes back a {type}", "{actor} が {type} を取り消し"),
        ("undo.like.object", "{actor} unlikes {object}", "{actor} が {object} のいいねを取り消し"),
        ("undo.like.unknown", "{actor} takes back a like", "{actor} がいいねを取り消し"),
        ("undo.react.object", "{actor} takes back the reaction to {object}", "{actor} が {object} へのリアクションを取り消し"),
        ("undo.react.unknown", "{actor} takes back a reaction", "{actor} がリアクションを取り消し"),
        ("undo.dislike.object", "{actor} takes back the dislike of {object}", "{actor} が {object} のよくないねを取り消し"),
        ("undo.dislike.unknown", "{actor} takes back a dislike", "{actor} がよくないねを取り消し"),
        ("undo.boost.object", "{actor} unboosts {object}", "{actor} が {object} のブーストを取り消し"),
        ("undo.boost.unknown", "{actor} takes back a boost", "{actor} がブーストを取り消し"),
        ("undo.block", "{actor} unblocks {object}", "{actor} が {object} のブロックを解除"),
        ("undo.ban", "{actor} lifts the ban of {object} from {target}", "{actor} が {target} からの {object} の追放を解除"),
        ("undo.delete", "{actor} restores {object}", "{actor} が {object} を復元"),
        ("undo.lock", "{actor} unlocks {object}", "{actor} が {object} のロックを解除"),
        ("undo.accept", "{actor} takes back the acceptance of {object}", "{actor} が {object} の承認を取り消し"),
        ("move", "{actor} moves to {target}", "{actor} が {target} に引っ越し"),
        ("move.other", "{actor} says that {object} moves to {target}", "{actor} が {object} から {target} への引っ越しを通知"),
        ("move.unknown", "{actor} moves; where to is not said", "{actor} が引っ越し、移転先の記載なし"),
        ("block", "{actor} blocks {object}", "{actor} が {object} をブロック"),
        ("block.ban", "{actor} bans {object} from {target}", "{actor} が {object} を {target} から追放"),
        ("flag", "{actor} reports {object}", "{actor} が {object} を通報"),
        ("add.moderator", "{actor} makes {object} a moderator of {target}", "{actor} が {object} を {target} のモデレーターに追加"),
        ("add.tag", "{actor} features a hashtag", "{actor} がハッシュタグを掲載"),
        ("add.object", "{actor} adds {object} to {target}", "{actor} が {target} に {object} を追加"),
        ("remove.moderator", "{actor} removes {object} as a moderator of {target}", "{actor} が {object} を {target} のモデレーターから解任"),
        ("remove.tag", "{actor} no longer features a hashtag", "{actor} がハッシュタグの掲載を終了"),
        ("remove.object", "{actor} removes {object} from {target}", "{actor} が {target} から {object} を削除"),
        ("lock.object", "{actor} locks {object}", "{actor} が {object} をロック"),
        ("view.object", "{actor} counts a view of {object}", "{actor} が {object} の視聴を通知"),
        ("ask.quote.object", "{actor} asks to quote {object}", "{actor} が {object} の引用を申請"),
        ("ask.like.object", "{actor} asks to like {object}", "{actor} が {object} へのいいねを申請"),
        ("ask.reply.object", "{actor} asks to reply to {object}", "{actor} が {object} への返信を申請"),
        ("ask.boost.object", "{actor} asks to boost {object}", "{actor} が {object} のブーストを申請"),
        ("ask.feature", "{actor} asks to feature {object} in a collection", "{actor} が {object} のコレクションへの掲載を申請"),
        ("join", "{actor} asks to join {object}", "{actor} が {object} に参加を申請"),
        ("leave", "{actor} leaves {object}", "{actor} が {object} から退出"),
        ("invite", "{actor} invites {object}", "{actor} が {object} を招待"),
        ("offer", "{actor} offers {object}", "{actor} が {object} を提案"),
        ("outbox.post", "a client posts an activity of type {type} to the outbox of {actor}", "クライアントが {actor} のアウトボックスに {type} アクティビティを投稿"),
        ("outbox.post.unknown", "a client posts something to the outbox of {actor}", "クライアントが {actor} のアウトボックスに何かを投稿"),
    }
    asked {
        ("webfinger", "{from} asks {to} who {account} is", "{from} が {to} に {account} を照会"),
        ("webfinger.none", "{from} asks the WebFinger of {to} without naming anyone", "{from} が {to} の WebFinger に対象なしで照会"),
        ("hostmeta", "{from} asks {to} where its WebFinger is", "{from} が {to} に WebFinger の場所を照会"),
        ("nodeinfo.discovery", "{from} looks for the NodeInfo of {to}", "{from} が {to} の NodeInfo の場所を照会"),
        ("nodeinfo", "{from} reads the NodeInfo of {to}", "{from} が {to} の NodeInfo を取得"),
        ("wellknown", "{from} reads {path} of {to}", "{from} が {to} の {path} を取得"),
        ("robots", "{from} reads robots.txt of {to}", "{from} が {to} の robots.txt を取得"),
        ("instance", "{from} reads the description of {to}", "{from} が {to} のサーバー情報を取得"),
        ("actor", "{from} fetches the actor {actor}", "{from} が {actor} のアクターを取得"),
        ("actor.instance", "{from} fetches the instance actor of {to}", "{from} が {to} のサーバーアクターを取得"),
        ("key", "{from} fetches the key of {actor}", "{from} が {actor} の公開鍵を取得"),
        ("key.actor", "{from} fetches the key (actor) of {actor}", "{from} が {actor} の公開鍵（アクター）を取得"),
        ("key.url", "{from} fetches the key {object}", "{from} が公開鍵 {object} を取得"),
        ("object.note", "{from} fetches a note by {author}", "{from} が {author} の投稿を取得"),
        ("object.poll", "{from} fetches a poll by {author}", "{from} が {author} のアンケートを取得"),
        ("object.article", "{from} fetches an article by {author}", "{from} が {author} の記事を取得"),
        ("object.page", "{from} fetches a page by {author}", "{from} が {author} のページを取得"),
        ("object.picture", "{from} fetches a picture by {author}", "{from} が {author} の画像を取得"),
        ("object.video", "{from} fetches a video by {author}", "{from} が {author} の動画を取得"),
        ("object.sound", "{from} fetches a sound by {author}", "{from} が {author} の音声を取得"),
        ("object.event", "{from} fetches an event by {author}", "{from} が {author} のイベントを取得"),
        ("object.post", "{from} fetches a post by {author}", "{from} が {author} の投稿を取得"),
        ("object.type", "{from} fetches an object of type {type} by {author}", "{from} が {author} の {type} オブジェクトを取得"),
        ("object.activity", "{from} fetches a {type} by {author}", "{from} が {author} の {type} を取得"),
        ("object.typed", "{from} fetches {object} ({type})", "{from} が {object}（{type}）を取得"),
        ("object", "{from} fetches {object}", "{from} が {object} を取得"),
        ("synchronization", "{from} compares which of its accounts follow {actor}", "{from} が自サーバーの {actor} フォロワーを照合"),
        ("context", "{from} reads a JSON-LD context from {to}", "{from} が {to} の JSON-LD コンテキストを取得"),
        ("oembed", "{from} asks {to} how to embed a page", "{from} が {to} に埋め込み情報を照会"),
        ("preview", "{from} reads {path} of {to} for a link preview", "{from} がリンクプレビューのため {to} の {path} を取得"),
        ("media.picture", "{from} fetches a picture from {to}", "{from} が {to} から画像を取得"),
        ("media.video", "{from} fetches a video from {to}", "{from} が {to} から動画を取得"),
        ("media.sound", "{from} fetches a sound from {to}", "{from} が {to} から音声を取得"),
        ("media", "{from} fetches media from {to}", "{from} が {to} からメディアを取得"),
        ("probe", "{from} checks whether {to} is well", "{from} が {to} の稼働を確認"),
        ("metrics", "{from} reads the metrics of {to}", "{from} が {to} のメトリクスを取得"),
        ("page", "a browser opens {path} on {to}", "ブラウザーが {to} の {path} を表示"),
        ("page.read", "{from} reads the page {path} of {to}", "{from} が {to} のページ {path} を取得"),
        ("page.form", "a browser sends a form to {path} on {to}", "ブラウザーが {to} の {path} にフォームを送信"),
        ("asset.client", "a client loads {path} from {to}", "クライアントが {to} から {path} を読み込み"),
        ("asset", "a browser loads {path} from {to}", "ブラウザーが {to} から {path} を読み込み"),
        ("streaming", "a client listens to the {stream} stream of {to}", "クライアントが {to} の {stream} ストリームを購読"),
        ("streaming.all", "a client listens to the streams of {to}", "クライアントが {to} のストリームを購読"),
        ("other", "{from} sends {method} {path} to {to}", "{from} が {to} に {method} {path} を送信"),
        ("preflight", "a browser asks {to} whether a page may use {path}", "ブラウザーが {to} に {path} の利用可否を照会"),
        ("client.other", "a client sends {method} {path} to {to}", "クライアントが {to} に {method} {path} を送信"),
        ("collection.followers", "{from} reads the followers of {actor}", "{from} が {actor} のフォロワーを取得"),
        ("collection.followers.page", "{from} reads a page of the followers of {actor}", "{from} が {actor} のフォロワーの 1 ページを取得"),
        ("collection.following", "{from} reads the follows of {actor}", "{from} が {actor} のフォロー中を取得"),
        ("collection.following.page", "{from} reads a page of the follows of {actor}", "{from} が {actor} のフォロー中の 1 ページを取得"),
        ("collection.outbox", "{from} reads the outbox of {actor}", "{from} が {actor} のアウトボックスを取得"),
        ("collection.outbox.page", "{from} reads a page of the outbox of {actor}", "{from} が {actor} のアウトボックスの 1 ページを取得"),
        ("collection.featured", "{from} reads the pinned notes of {actor}", "{from} が {actor} の固定投稿を取得"),
        ("collection.featured.page", "{from} reads a page of the pinned notes of {actor}", "{from} が {actor} の固定投稿の 1 ページを取得"),
        ("collection.tags", "{from} reads the featured hashtags of {actor}", "{from} が {actor} の掲載ハッシュタグを取得"),
        ("collection.tags.page", "{from} reads a page of the featured hashtags of {actor}", "{from} が {actor} の掲載ハッシュタグの 1 ページを取得"),
        ("collection.liked", "{from} reads the likes by {actor}", "{from} が {actor} のいいね一覧を取得"),
        ("collection.liked.page", "{from} reads a page of the likes by {actor}", "{from} が {actor} のいいね一覧の 1 ページを取得"),
        ("collection.moderators", "{from} reads the moderators of {actor}", "{from} が {actor} のモデレーターを取得"),
        ("collection.moderators.page", "{from} reads a page of the moderators of {actor}", "{from} が {actor} のモデレーターの 1 ページを取得"),
        ("collection.replies", "{from} reads the replies to a note by {actor}", "{from} が {actor} の投稿への返信を取得"),
        ("collection.replies.page", "{from} reads a page of the replies to a note by {actor}", "{from} が {actor} の投稿への返信の 1 ページを取得"),
        ("collection.likes", "{from} reads the likes of a note by {actor}", "{from} が {actor} の投稿へのいいねを取得"),
        ("collection.likes.page", "{from} reads a page of the likes of a note by {actor}", "{from} が {actor} の投稿へのいいねの 1 ページを取得"),
        ("collection.shares", "{from} reads the boosts of a note by {actor}", "{from} が {actor} の投稿のブーストを取得"),
        ("collection.shares.page", "{from} reads a page of the boosts of a note by {actor}", "{from} が {actor} の投稿のブーストの 1 ページを取得"),
        ("collection.replies.object", "{from} reads the replies to {object}", "{from} が {object} への返信を取得"),
        ("collection.replies.object.page", "{from} reads a page of the replies to {object}", "{from} が {object} への返信の 1 ページを取得"),
        ("collection.likes.object", "{from} reads the likes of {object}", "{from} が {object} へのいいねを取得"),
        ("collection.likes.object.page", "{from} reads a page of the likes of {object}", "{from} が {object} へのいいねの 1 ページを取得"),
        ("collection.shares.object", "{from} reads the boosts of {object}", "{from} が {object} のブーストを取得"),
        ("collection.shares.object.page", "{from} reads a page of the boosts of {object}", "{from} が {object} のブーストの 1 ページを取得"),
        ("collection.other", "{from} reads the collection {object}", "{from} が コレクション {object}を取得"),
        ("collection.other.page", "{from} reads a page of the collection {object}", "{from} が コレクション {object}の 1 ページを取得"),
        ("client.timeline.home", "a client reads the home timeline on {to}", "クライアントが {to} でホームタイムラインを取得"),
        ("client.timeline.public", "a client reads the public timeline on {to}", "クライアントが {to} で公開タイムラインを取得"),
        ("client.timeline.tag", "a client reads the timeline of a hashtag on {to}", "クライアントが {to} でハッシュタグのタイムラインを取得"),
        ("client.timeline.list", "a client reads the timeline of a list on {to}", "クライアントが {to} でリストのタイムラインを取得"),
        ("client.timeline.local", "a client reads the local timeline on {to}", "クライアントが {to} でローカルタイムラインを取得"),
        ("client.notifications", "a client reads the notifications on {to}", "クライアントが {to} で通知を取得"),
        ("client.notifications.clear", "a client dismisses notifications on {to}", "クライアントが {to} で通知を消去"),
        ("client.conversations", "a client reads the conversations on {to}", "クライアントが {to} で会話を取得"),
        ("client.status.post", "a client posts a note on {to}", "クライアントが {to} で投稿を送信"),
        ("client.status.read", "a client reads a note on {to}", "クライアントが {to} で投稿を取得"),
        ("client.status.edit", "a client edits a note on {to}", "クライアントが {to} で投稿を編集"),
        ("client.status.delete", "a client deletes a note on {to}", "クライアントが {to} で投稿を削除"),
        ("client.status.context", "a client reads the thread of a note on {to}", "クライアントが {to} で投稿のスレッドを取得"),
        ("client.status.history", "a client reads the history of a note on {to}", "クライアントが {to} で投稿の編集履歴を取得"),
        ("client.status.source", "a client reads the source of a note on {to}", "クライアントが {to} で投稿の原文を取得"),
        ("client.status.likers", "a client reads who likes a note on {to}", "クライアントが {to} でいいねした人を取得"),
        ("client.status.boosters", "a client reads who boosted a note on {to}", "クライアントが {to} でブーストした人を取得"),
        ("client.like", "a client likes a note on {to}", "クライアントが {to} で投稿にいいね"),
        ("client.unlike", "a client unlikes a note on {to}", "クライアントが {to} でいいねを取り消し"),
        ("client.boost", "a client boosts a note on {to}", "クライアントが {to} で投稿をブースト"),
        ("client.unboost", "a client unboosts a note on {to}", "クライアントが {to} でブーストを取り消し"),
        ("client.bookmark", "a client bookmarks a note on {to}", "クライアントが {to} で投稿をブックマーク"),
        ("client.unbookmark", "a client removes a bookmark on {to}", "クライアントが {to} でブックマークを解除"),
        ("client.pin", "a client pins a note on {to}", "クライアントが {to} で投稿を固定"),
        ("client.unpin", "a client unpins a note on {to}", "クライアントが {to} で投稿の固定を解除"),
        ("client.react", "a client reacts to a note on {to}", "クライアントが {to} で投稿にリアクション"),
        ("client.follow", "a client follows an account on {to}", "クライアントが {to} でアカウントをフォロー"),
        ("client.unfollow", "a client unfollows an account on {to}", "クライアントが {to} でフォローを解除"),
        ("client.block", "a client blocks an account on {to}", "クライアントが {to} でアカウントをブロック"),
        ("client.unblock", "a client unblocks an account on {to}", "クライアントが {to} でブロックを解除"),
        ("client.mute", "a client mutes an account on {to}", "クライアントが {to} でアカウントをミュート"),
        ("client.unmute", "a client unmutes an account on {to}", "クライアントが {to} でミュートを解除"),
        ("client.follow.requests", "a client reads the follow requests on {to}", "クライアントが {to} でフォロー申請を取得"),
        ("client.follow.authorize", "a client accepts a follow request on {to}", "クライアントが {to} でフォロー申請を承認"),
        ("client.follow.reject", "a client rejects a follow request on {to}", "クライアントが {to} でフォロー申請を拒否"),
        ("client.account.read", "a client reads an account on {to}", "クライアントが {to} でアカウントを取得"),
        ("client.account.statuses", "a client reads the notes of an account on {to}", "クライアントが {to} でアカウントの投稿を取得"),
        ("client.account.followers", "a client reads the followers of an account on {to}", "クライアントが {to} でアカウントのフォロワーを取得"),
        ("client.account.following", "a client reads the follows of an account on {to}", "クライアントが {to} でアカウントのフォロー中を取得"),
        ("client.account.relationships", "a client reads relationships on {to}", "クライアントが {to} で関係を取得"),
        ("client.account.verify", "a client reads its own account on {to}", "クライアントが {to} で自分のアカウントを取得"),
        ("client.account.update", "a client updates its own profile on {to}", "クライアントが {to} でプロフィールを更新"),
        ("client.account.register", "a client registers an account on {to}", "クライアントが {to} でアカウントを登録"),
        ("client.account.lookup", "a client looks up an account on {to}", "クライアントが {to} でアカウントを検索"),
        ("client.search", "a client searches on {to}", "クライアントが {to} で検索"),
        ("client.vote", "a client votes in a poll on {to}", "クライアントが {to} でアンケートに投票"),
        ("client.poll", "a client reads a poll on {to}", "クライアントが {to} でアンケートを取得"),
        ("client.media.upload", "a client uploads media on {to}", "クライアントが {to} でメディアをアップロード"),
        ("client.media.read", "a client reads an upload on {to}", "クライアントが {to} でアップロードを取得"),
        ("client.report", "a client reports an account on {to}", "クライアントが {to} で通報"),
        ("client.preferences", "a client reads the preferences on {to}", "クライアントが {to} で設定を取得"),
        ("client.emojis", "a client reads the custom emojis on {to}", "クライアントが {to} でカスタム絵文字を取得"),
        ("client.lists", "a client reads the lists on {to}", "クライアントが {to} でリストを取得"),
        ("client.filters", "a client reads the filters on {to}", "クライアントが {to} でフィルターを取得"),
        ("client.bookmarks", "a client reads the bookmarks on {to}", "クライアントが {to} でブックマークを取得"),
        ("client.favourites", "a client reads the likes on {to}", "クライアントが {to} でいいね一覧を取得"),
        ("client.blocks", "a client reads the blocks on {to}", "クライアントが {to} でブロック一覧を取得"),
        ("client.mutes", "a client reads the mutes on {to}", "クライアントが {to} でミュート一覧を取得"),
        ("client.markers", "a client reads or moves the reading position on {to}", "クライアントが {to} で既読位置を同期"),
        ("client.trends", "a client reads the trends on {to}", "クライアントが {to} でトレンドを取得"),
        ("client.announcements", "a client reads the announcements on {to}", "クライアントが {to} でお知らせを取得"),
        ("client.push", "a client sets up push notifications on {to}", "クライアントが {to} でプッシュ通知を設定"),
        ("client.instance", "a client reads the server description on {to}", "クライアントが {to} でサーバー情報を取得"),
        ("client.app", "a client registers an app on {to}", "クライアントが {to} でアプリを登録"),
        ("client.oauth.authorize", "a client asks for authorization on {to}", "クライアントが {to} で認可を要求"),
        ("client.oauth.token", "a client asks for a token on {to}", "クライアントが {to} でトークンを要求"),
        ("client.oauth.revoke", "a client gives back a token on {to}", "クライアントが {to} でトークンを返却"),
        ("client.admin.block", "a client blocks a domain on {to}", "クライアントが {to} でドメインをブロック"),
        ("client.admin.unblock", "a client unblocks a domain on {to}", "クライアントが {to} でドメインのブロックを解除"),
        ("client.admin", "a client administers {to}: {method} {path}", "クライアントが {to} を管理、{method} {path}"),
    }
    nouns {
        ("create", "{actor} posts " _ " to {recipient}", "{actor} が {recipient} に" _ "を送信"),
        ("create.followers", "{actor} posts " _ " for followers to {recipient}", "{actor} が {recipient} にフォロワー限定の" _ "を送信"),
        ("create.direct", "{actor} sends " _ " directly to {recipient}", "{actor} が {recipient} にダイレクトで" _ "を送信"),
        ("create.reply", "{actor} replies to " _ " by {author}", "{actor} が {author} の" _ "に返信"),
        ("update", "{actor} edits " _ "", "{actor} が" _ "を編集"),
        ("delete", "{actor} deletes " _ "", "{actor} が" _ "を削除"),
        ("delete.other", "{actor} deletes " _ " by {author}", "{actor} が {author} の" _ "を削除"),
        ("like", "{actor} likes " _ " by {author}", "{actor} が {author} の" _ "にいいね"),
        ("react", "{actor} reacts with {emoji} to " _ " by {author}", "{actor} が {author} の" _ "に {emoji} でリアクション"),
        ("dislike", "{actor} dislikes " _ " by {author}", "{actor} が {author} の" _ "によくないね"),
        ("boost", "{actor} boosts " _ " by {author}", "{actor} が {author} の" _ "をブースト"),
        ("undo.like", "{actor} unlikes " _ " by {author}", "{actor} が {author} の" _ "のいいねを取り消し"),
        ("undo.react", "{actor} takes back the reaction to " _ " by {author}", "{actor} が {author} の" _ "へのリアクションを取り消し"),
        ("undo.dislike", "{actor} takes back the dislike of " _ " by {author}", "{actor} が {author} の" _ "のよくないねを取り消し"),
        ("undo.boost", "{actor} unboosts " _ " by {author}", "{actor} が {author} の" _ "のブーストを取り消し"),
        ("add.pin", "{actor} pins " _ "", "{actor} が" _ "を固定"),
        ("remove.pin", "{actor} unpins " _ "", "{actor} が" _ "の固定を解除"),
        ("lock", "{actor} locks " _ " by {author}", "{actor} が {author} の" _ "をロック"),
        ("view", "{actor} counts a view of " _ " by {author}", "{actor} が {author} の" _ "の視聴を通知"),
        ("flag.post", "{actor} reports " _ " by {author}", "{actor} が {author} の" _ "を通報"),
        ("ask.quote", "{actor} asks to quote " _ " by {author}", "{actor} が {author} の" _ "の引用を申請"),
        ("ask.like", "{actor} asks to like " _ " by {author}", "{actor} が {author} の" _ "へのいいねを申請"),
        ("ask.reply", "{actor} asks to reply to " _ " by {author}", "{actor} が {author} の" _ "への返信を申請"),
        ("ask.boost", "{actor} asks to boost " _ " by {author}", "{actor} が {author} の" _ "のブーストを申請"),
    }
}
