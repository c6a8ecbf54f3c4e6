//! A box that follows a group: from what came over the broker to a prompt in use, or to a sentence on why not. Whatever
//! interrupts it, the prompt in use is the old one or the new one, whole, and an old notice stays an old one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::decision::{Channel, Decision, Following, Record, Taken, decide};
use super::judge::{JudgeError, Judgement, Origin, OwnPictures};
use super::models::NoModel;
use super::{
    Bundle, Group, Kind, Notice, Refusal, RegionReport, Report, Signed, TrustedKey, read, topics,
};
use crate::classifier::{Classifier, ClassifierError};
use crate::clip::Model;
use crate::mqtt::MqttError;
use crate::prompt::Prompt;
use crate::store::{Home, LoadedPrompt, PromptFileError, StoreError, format};

/// What a box follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The group.
    pub group: Group,
    /// What the box is called.
    pub name: String,
    /// Whose signatures it takes.
    pub trusted: Vec<TrustedKey>,
    /// What it looks at, and which of its prompts each is.
    pub regions: Vec<(String, String)>,
}

/// Why a notice that is meant for this box could not be followed yet; it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Something cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the box remembers is damaged: without it an old notice would be taken for a new one.
    #[error("{} is damaged: remove it, and the box takes whatever is published next", path.display())]
    Record {
        /// Its file.
        path: PathBuf,
    },
    /// Its model could not be fetched.
    #[error("its model {of} could not be fetched: {reason}")]
    Fetching {
        /// The model's name.
        of: String,
        /// Why not.
        reason: String,
    },
    /// It cannot be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// What became of a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It was dealt with before, or says nothing.
    Known,
    /// Other boxes try it first.
    Waits(Box<Notice>),
    /// The box does not take it.
    Refused(Refusal),
    /// It was dealt with.
    Followed(Taken),
    /// It could not be followed yet.
    Trouble(Trouble),
}

/// From a prompt, and where its model may lie, to that model; else why there is none.
pub type FindModel<'a> = dyn Fn(&Prompt, Option<&Bundle>) -> Result<Arc<Model>, NoModel> + 'a;

/// From the name of a prompt to the box's own pictures for it, as a model sees them; none where it has none.
pub type FindPictures<'a> = dyn Fn(&str, &Model) -> Result<Option<OwnPictures>, JudgeError> + 'a;

/// What a box needs to follow what is published.
pub struct Tools<'a> {
    /// The model that a prompt was trained for, fetched if it lies somewhere; else why there is none.
    pub model: &'a FindModel<'a>,
    /// The box's own pictures for a prompt of this name, as a model sees them; none where it has none.
    pub pictures: &'a FindPictures<'a>,
}

/// A box that follows a group.
pub struct Follower {
    home: Home,
    subscription: Subscription,
}

/// A failure on the way: one that is for ever, or one that may pass.
enum Stop {
    Refusal(Refusal),
    Trouble(Trouble),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Trouble(error.into())
    }
}

impl From<JudgeError> for Stop {
    fn from(error: JudgeError) -> Stop {
        Stop::Trouble(error.into())
    }
}

impl Follower {
    /// A box with a home folder.
    pub fn new(home: Home, subscription: Subscription) -> Follower {
        Follower { home, subscription }
    }

    /// What it follows.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Where it listens.
    pub fn topics(&self) -> Vec<String> {
        let group = &self.subscription.group;
        let channels = [Channel::All, Channel::Canary];
        let regions = self.subscription.regions.iter();
        regions
            .flat_map(|(region, _)| {
                channels.map(|channel| topics::of_region(group, region, channel))
            })
            .collect()
    }

    /// Where it says that it is online, and what became of notices.
    ///
    /// # Errors
    /// If nothing can be called as this box is.
    pub fn own_topics(&self) -> Result<(String, String), MqttError> {
        let Subscription { group, name, .. } = &self.subscription;
        Ok((topics::presence(group, name)?, topics::report(group, name)?))
    }

    /// The region that a topic of [`Follower::topics`] is of.
    pub fn region_at(&self, topic: &str) -> Option<&str> {
        self.place(topic).map(|(region, _, _)| region)
    }

    fn place(&self, topic: &str) -> Option<(&str, &str, Channel)> {
        let group = &self.subscription.group;
        for (region, prompt) in &self.subscription.regions {
            for channel in [Channel::All, Channel::Canary] {
                if topics::of_region(group, region, channel) == topic {
                    return Some((region, prompt, channel));
                }
            }
        }
        None
    }

    /// Does what a message that came at `topic` says, if it is to be done here.
    pub fn hear(&self, topic: &str, payload: &[u8], tools: &Tools) -> Outcome {
        // What is told when a message that was kept is taken away.
        let Some(place) = self.place(topic).filter(|_| !payload.is_empty()) else {
            return Outcome::Known;
        };
        match self.follow(place, payload, tools) {
            Ok(outcome) => outcome,
            Err(Stop::Refusal(refusal)) => Outcome::Refused(refusal),
            Err(Stop::Trouble(trouble)) => Outcome::Trouble(trouble),
        }
    }

    fn follow(
        &self,
        (region, prompt, channel): (&str, &str, Channel),
        payload: &[u8],
        tools: &Tools,
    ) -> Result<Outcome, Stop> {
        let signed = read(payload, &self.subscription.trusted).map_err(Stop::Refusal)?;
        let record = self.record(region)?;
        let following = Following {
            group: &self.subscription.group,
            name: &self.subscription.name,
        };
        match decide(&signed, (region, channel), following, &record).map_err(Stop::Refusal)? {
            Decision::Known => return Ok(Outcome::Known),
            Decision::Waits => return Ok(Outcome::Waits(Box::new(signed.notice))),
            Decision::Follow => {}
        }
        let turn = Turn {
            home: &self.home,
            prompt,
            file: self.record_name(region),
        };
        let (record, taken) = match signed.notice.kind {
            Kind::Withdraw => turn.withdraw(record)?,
            Kind::Publish | Kind::Rollback => turn.take(record, &signed, tools)?,
        };
        turn.remember(&record.after(&signed, channel, taken.clone()))?;
        Ok(Outcome::Followed(taken))
    }

    /// What the box remembers of a region.
    ///
    /// # Errors
    /// If that cannot be read, or is damaged.
    pub fn record(&self, region: &str) -> Result<Record, Trouble> {
        let name = self.record_name(region);
        let Some(bytes) = self.home.fleet_file(&name)? else {
            return Ok(Record::default());
        };
        serde_json::from_slice(&bytes).map_err(|_| Trouble::Record {
            path: self.home.fleet_path(&name),
        })
    }

    /// What the box has to say; `troubles` are why the newest of a region was not followed.
    pub fn report(&self, troubles: &dyn Fn(&str) -> Option<String>) -> Report {
        let of = |(region, prompt): &(String, String)| {
            let record = self.record(region);
            let trouble = record.as_ref().err().map(ToString::to_string);
            let mut report = RegionReport::new(region, prompt, &record.unwrap_or_default());
            report.trouble = troubles(region).or(trouble);
            report
        };
        let regions = self.subscription.regions.iter().map(of);
        Report::new(&self.subscription, now(), regions.collect())
    }

    /// Each group counts for itself.
    fn record_name(&self, region: &str) -> String {
        let group = blake3::hash(self.subscription.group.as_str().as_bytes()).to_hex();
        format!("{region}.{}.json", &group[..12])
    }
}

/// One notice on its way into use.
struct Turn<'a> {
    home: &'a Home,
    /// The prompt of this box that the region is.
    prompt: &'a str,
    /// Where the box remembers the region.
    file: String,
}

impl Turn<'_> {
    fn remember(&self, record: &Record) -> Result<(), Trouble> {
        // Strings and numbers alone: nothing of it can fail.
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        Ok(self.home.keep_fleet_file(&self.file, &bytes)?)
    }

    fn in_use(&self) -> Result<Option<LoadedPrompt>, StoreError> {
        match self.home.load(self.prompt) {
            Ok(loaded) => Ok(Some(loaded)),
            Err(error) if error.is_missing_prompt() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Brings the prompt of a notice into use, if it may be.
    fn take(
        &self,
        record: Record,
        signed: &Signed,
        tools: &Tools,
    ) -> Result<(Record, Taken), Stop> {
        let notice = &signed.notice;
        let Some(offered) = &notice.prompt else {
            let fault = "it brings no prompt".into();
            return Err(Stop::Refusal(Refusal::Malformed { fault }));
        };
        let model = (tools.model)(offered, notice.bundle.as_ref())
            .map_err(|absent| without_model(offered, absent))?;
        fits(&model, offered)?;
        let in_use = self.in_use()?;
        let digest = digest_of(offered)?;
        let of_use = in_use
            .as_ref()
            .map(|loaded| digest_of(&loaded.record))
            .transpose()?;
        if of_use.as_ref() == Some(&digest) {
            let before = record.taken.clone().filter(|_| record.is_of_fleet(&digest));
            let mut taken = before.unwrap_or_else(|| taken("accepted", String::new(), None));
            taken.said = format!("generation {} is in use already", notice.generation);
            taken.at_unix = now();
            return Ok((record, taken));
        }
        let origin = match &of_use {
            Some(digest) if record.is_of_fleet(digest) => Origin::Fleet,
            _ => Origin::Own,
        };
        let pictures = (tools.pictures)(self.prompt, &model)?;
        let judgement = match &pictures {
            Some(pictures) => {
                let in_use = in_use.as_ref().map(|loaded| (&loaded.record, origin));
                Some(pictures.judge(&model, in_use, offered)?)
            }
            None => None,
        };
        let taken = verdict(notice, origin, judgement.as_ref());
        if taken.state == "refused" {
            return Ok((record, taken));
        }
        let mut record = record;
        if origin == Origin::Own {
            record.own = in_use.map(|loaded| loaded.record.provenance.sequence);
        }
        record.remember(digest);
        // First what it is, then the prompt: if the power goes in between, it is known again as the fleet's.
        self.remember(&record)?;
        self.home.save(self.prompt, offered)?;
        Ok((record, taken))
    }

    /// Goes back to what this box had before the fleet's first prompt.
    fn withdraw(&self, mut record: Record) -> Result<(Record, Taken), Stop> {
        let Some(in_use) = self.in_use()? else {
            return Ok((
                record,
                taken(
                    "withdrawn",
                    "withdrawn: nothing is in use here".into(),
                    None,
                ),
            ));
        };
        if !record.is_of_fleet(&digest_of(&in_use.record)?) {
            let said = "withdrawn: this box uses a prompt of its own, and goes on";
            return Ok((record, taken("withdrawn", said.into(), None)));
        }
        let Some(own) = record.own else {
            let said =
                "withdrawn, but this box had no prompt before the fleet's: it goes on with that";
            return Ok((record, taken("withdrawn", said.into(), None)));
        };
        let said = match self.home.rollback(self.prompt, Some(own)) {
            Ok(_) => {
                record.own = None;
                format!("withdrawn: this box's own prompt of generation {own} is in use again")
            }
            Err(StoreError::Missing(_)) => format!(
                "withdrawn, but this box's own prompt of generation {own} is no longer in the history of {:?}: it goes on with \
                 the fleet's",
                self.prompt
            ),
            Err(error) => return Err(error.into()),
        };
        Ok((record, taken("withdrawn", said, None)))
    }
}

fn without_model(offered: &Prompt, absent: NoModel) -> Stop {
    let of = offered.model_name.clone();
    match absent {
        NoModel::NotYet(reason) => Stop::Trouble(Trouble::Fetching { of, reason }),
        NoModel::Others(has) => {
            let fingerprint = blake3::Hash::from(offered.model_fingerprint).to_hex();
            Stop::Refusal(Refusal::OtherModel {
                of,
                fingerprint: fingerprint[..8].into(),
                has,
            })
        }
    }
}

/// What own pictures, or their absence, make of a notice.
fn verdict(notice: &Notice, origin: Origin, judgement: Option<&Judgement>) -> Taken {
    let found = judgement.map(Judgement::in_words);
    let restores = notice.restores.unwrap_or_default();
    match (notice.kind, origin, judgement) {
        // The owner says that what is in use is wrong, and it came from the owner.
        (Kind::Rollback, Origin::Fleet, _) => {
            let found = found.map_or(String::new(), |found| format!(", {found}"));
            let said = format!("restored: what generation {restores} was is in use again{found}");
            taken("restored", said, judgement)
        }
        (_, _, None) => {
            let said = "taken unjudged: this box has no pictures of its own to judge by";
            taken("unjudged", said.into(), None)
        }
        (_, _, Some(judgement)) if judgement.accepts() => taken(
            "accepted",
            format!("accepted, {}", judgement.in_words()),
            Some(judgement),
        ),
        (_, _, Some(judgement)) => taken(
            "refused",
            format!("refused: {}", judgement.in_words()),
            Some(judgement),
        ),
    }
}

fn taken(state: &str, said: String, judgement: Option<&Judgement>) -> Taken {
    Taken {
        state: state.into(),
        said,
        before: judgement.map(|found| found.before),
        after: judgement.map(|found| found.after),
        pictures: judgement.map_or(0, |found| found.pictures),
        at_unix: now(),
    }
}

/// Whether a prompt can be put before its labels as the model reads them: a prompt of the right model may still be nonsense.
fn fits(model: &Model, prompt: &Prompt) -> Result<(), Stop> {
    let unfit = |error: ClassifierError| {
        Stop::Refusal(Refusal::Unfit {
            fault: error.to_string(),
        })
    };
    Classifier::with_prompt(model, prompt)
        .map(drop)
        .map_err(unfit)
}

/// Whether `prompt` came from a fleet that a box with this home folder follows, or followed: then it has not seen the box's shots.
pub fn is_of_fleet(home: &Home, prompt: &Prompt) -> bool {
    let names = home.fleet_files("").unwrap_or_default();
    let of = |name: String| -> Option<Record> {
        let bytes = home.fleet_file(&name).ok()??;
        serde_json::from_slice(&bytes).ok()
    };
    let mut records = names.into_iter().filter(|name| name.ends_with(".json"));
    let digest = digest_of(prompt).ok();
    digest.is_some_and(|digest| {
        records.any(|name| of(name).is_some_and(|record| record.is_of_fleet(&digest)))
    })
}

fn digest_of(prompt: &Prompt) -> Result<String, StoreError> {
    let digest: Result<_, PromptFileError> = format::digest(prompt);
    Ok(digest?.to_hex().to_string())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
