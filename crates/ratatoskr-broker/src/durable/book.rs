//! The book of a subscription: what of it must survive, and the journal's events that change it.
//!
//! ```text
//!   journal:   created │ round: acked 0..40, returned 41 │ round: acked 42..90, dead 41 │ …
//!   book:      origin 0, settled {0..90}, returned {}, counts
//! ```
//!
//! A book is a function of the journal: it changes by [`Book::apply`] and [`Books::apply`] alone, once an event is committed, and
//! by the very same calls when the journal is replayed. The bytes are described in `docs/log-format.md`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::happening::{
    Created, Happening, Round, from_json, json, put_ranges, put_returned, take_ranges, take_returned,
};
use super::ranges::Ranges;
use super::settings::{SubscriptionName, SubscriptionSettings};
use crate::code::{Reader, put_number, put_text};
use crate::schedule::Progress;

/// An unsettled message that has used up attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) attempts: u32,
    /// Not to be delivered before, wall time: a restart knows no other.
    pub(crate) until_ms: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// Why it came back the last time.
    pub(crate) reason: Arc<str>,
}

/// Where a subscription stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Everything before it is none of the subscription's business.
    pub(crate) origin: u64,
    /// Offsets that are done with, however that came, from the origin on.
    pub(crate) settled: Ranges,
    pub(crate) returned: BTreeMap<u64, Returned>,
}

/// A standing that was saved, as a checkpoint has it: a range takes two to four bytes instead of forty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedState {
    origin: u64,
    encoded: Arc<[u8]>,
}

impl SavedState {
    pub(crate) fn of(standing: &Standing) -> SavedState {
        let mut encoded = Vec::new();
        put_standing(&mut encoded, standing);
        SavedState { origin: standing.origin, encoded: encoded.into() }
    }

    fn standing(&self) -> Result<Standing, String> {
        take_standing(&mut Reader::new(&self.encoded), self.origin)
    }

    /// What it takes in memory, its name and place included.
    pub(crate) fn bytes(&self) -> u64 {
        SAVED_STATE_BYTES + self.encoded.len() as u64
    }
}

/// What a saved state takes besides its ranges: its name of at most 255 bytes, and its place in the table.
const SAVED_STATE_BYTES: u64 = 384;

/// How many messages went which way, since the subscription was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) acked: u64,
    pub(crate) passed: u64,
    pub(crate) expired: u64,
    pub(crate) dead: u64,
}

/// See the file's head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Book {
    pub(crate) number: u32,
    /// Its topic's number.
    pub(crate) topic: u32,
    pub(crate) name: SubscriptionName,
    pub(crate) created_ms: u64,
    pub(crate) settings: Arc<SubscriptionSettings>,
    pub(crate) standing: Standing,
    pub(crate) counts: Counts,
    pub(crate) saved: BTreeMap<String, SavedState>,
    /// True once the courier is at work on it: before that nobody finds it.
    is_open: bool,
}

impl Standing {
    /// The oldest offset that is not done with.
    pub(crate) fn floor(&self) -> u64 {
        self.settled.end_of(self.origin).unwrap_or(self.origin)
    }

    /// Offsets between two that are not settled, as ranges.
    pub(crate) fn gaps(&self, from: u64, to: u64) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), from);
        for range in self.settled.iter().filter(|range| range.end > from) {
            if range.start >= to {
                break;
            }
            if range.start > at {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < to {
            gaps.push(at..to);
        }
        gaps
    }

    /// Unsettled ranges from an offset on, the first `count` of them. The last one there is has no end.
    pub(crate) fn unsettled(&self, from: u64, count: usize) -> Vec<Range<u64>> {
        self.settled.gaps(from.max(self.origin), count)
    }

    /// The oldest `count` unsettled offsets before `next`, as ranges.
    fn oldest_unsettled(&self, next: u64, mut count: u64) -> Vec<Range<u64>> {
        let mut oldest = Vec::new();
        for gap in self.gaps(self.floor(), next) {
            let end = gap.end.min(gap.start.saturating_add(count));
            count -= end - gap.start;
            if gap.start < end {
                oldest.push(gap.start..end);
            }
        }
        oldest
    }

    /// Takes in what is done with; answers how many were not before.
    fn settle(&mut self, ranges: &Ranges) -> u64 {
        let mut new = 0;
        for Range { start, end } in ranges.iter() {
            let start = start.max(self.origin);
            if start < end {
                new += self.settled.insert(start..end);
            }
            while let Some((&offset, _)) = self.returned.range(start.min(end)..end).next() {
                self.returned.remove(&offset);
            }
        }
        new
    }
}

impl Book {
    fn settle(&mut self, round: &Round) {
        // What is done with stays so, whatever is said of it later.
        for (&offset, returned) in &round.returned {
            if offset >= self.standing.origin && !self.standing.settled.contains(offset) {
                self.standing.returned.insert(offset, returned.clone());
            }
        }
        self.counts.acked += self.standing.settle(&round.acked);
        self.counts.passed += self.standing.settle(&round.passed);
        self.counts.expired += self.standing.settle(&round.expired);
        self.counts.dead += self.standing.settle(&round.dead);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let created = Created {
            number: self.number,
            topic: self.topic,
            name: self.name.as_str().to_owned(),
            created_ms: self.created_ms,
            settings: SubscriptionSettings::clone(&self.settings),
            origin: self.standing.origin,
        };
        put_number(&mut bytes, BOOK);
        put_text(&mut bytes, &json(&created));
        let Counts { acked, passed, expired, dead } = self.counts;
        for count in [acked, passed, expired, dead] {
            put_number(&mut bytes, count);
        }
        put_standing(&mut bytes, &self.standing);
        for (name, saved) in &self.saved {
            put_text(&mut bytes, name.as_bytes());
            put_number(&mut bytes, saved.origin);
            bytes.extend_from_slice(&saved.encoded);
        }
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Book, String> {
        let created: Created = from_json(reader.bytes()?)?;
        let mut book = Book::new(created)?;
        let mut count = || reader.number();
        book.counts = Counts { acked: count()?, passed: count()?, expired: count()?, dead: count()? };
        book.standing = take_standing(reader, book.standing.origin)?;
        while !reader.is_at_end() {
            let name = reader.text()?.to_owned();
            let origin = reader.number()?;
            book.saved.insert(name, SavedState::of(&take_standing(reader, origin)?));
        }
        Ok(book)
    }

    fn new(created: Created) -> Result<Book, String> {
        Ok(Book {
            number: created.number,
            topic: created.topic,
            name: SubscriptionName::parse(&created.name).map_err(|error| error.to_string())?,
            created_ms: created.created_ms,
            settings: Arc::new(created.settings),
            standing: Standing { origin: created.origin, ..Standing::default() },
            counts: Counts::default(),
            saved: BTreeMap::new(),
            is_open: false,
        })
    }
}

/// All books. The sequencer changes them, the courier looks things up.
#[derive(Default)]
pub(crate) struct Books {
    all: Mutex<Shelf>,
}

/// Subscriptions that are looked at before others get at them.
const LOOK_STEP: usize = 256;

#[derive(Default)]
struct Shelf {
    /// Shared with the checkpoint being written: a book that changes meanwhile is copied.
    books: BTreeMap<u32, Arc<Book>>,
    /// Their numbers by topic and name: every call names its subscription.
    numbers: BTreeMap<(u32, SubscriptionName), u32>,
    /// The highest number ever used.
    last_number: u32,
    schedule: Progress,
    /// Those of the book that was added last: many subscriptions have the same.
    last_settings: Arc<SubscriptionSettings>,
}

impl Shelf {
    fn iter(&self) -> impl Iterator<Item = &Book> {
        self.books.values().map(|book| &**book)
    }

    fn add(&mut self, mut book: Book) {
        if book.settings == self.last_settings {
            book.settings = self.last_settings.clone();
        } else {
            self.last_settings = book.settings.clone();
        }
        self.numbers.insert((book.topic, book.name.clone()), book.number);
        self.books.insert(book.number, Arc::new(book));
    }

    fn remove(&mut self, number: u32) {
        if let Some(book) = self.books.remove(&number) {
            self.numbers.remove(&(book.topic, book.name.clone()));
        }
    }
}

impl Books {
    /// Takes in what has been committed. What concerns a subscription that is gone is passed over.
    pub(crate) fn apply(&self, happening: &Happening) -> Result<(), String> {
        let mut guard = self.all.lock();
        if let Happening::Created(created) = happening {
            guard.last_number = guard.last_number.max(created.number);
            let book = Book::new(created.clone())?;
            guard.add(book);
            return Ok(());
        }
        if let Happening::Dispatched(progress) = happening {
            guard.schedule = *progress;
            return Ok(());
        }
        if let Happening::Deleted { number } = happening {
            guard.remove(*number);
            return Ok(());
        }
        let Some(book) = guard.books.get_mut(&happening.number()) else { return Ok(()) };
        let book = Arc::make_mut(book);
        match happening {
            Happening::Created(_) | Happening::Dispatched(_) | Happening::Deleted { .. } => {
                unreachable!("handled above")
            }
            Happening::Changed { settings, .. } => book.settings = settings.clone(),
            Happening::Settled { round, .. } => book.settle(round),
            Happening::Moved { origin, .. } => {
                book.standing = Standing { origin: *origin, ..Standing::default() };
            }
            Happening::Skipped { count, next, .. } => {
                let oldest = book.standing.oldest_unsettled(*next, *count).into_iter();
                let passed = oldest.fold(Ranges::default(), |mut passed, range| {
                    passed.insert(range);
                    passed
                });
                book.settle(&Round { passed, ..Round::default() });
            }
            Happening::Restored { saved, .. } => {
                if let Some(saved) = book.saved.get(saved) {
                    book.standing = saved.standing()?;
                }
            }
            Happening::Saved { saved, .. } => {
                book.saved.insert(saved.clone(), SavedState::of(&book.standing));
            }
            Happening::Forgotten { saved, .. } => {
                book.saved.remove(saved);
            }
        }
        Ok(())
    }

    /// Bytes that all saved states take.
    pub(crate) fn saved_bytes(&self) -> u64 {
        let guard = self.all.lock();
        guard.books.values().flat_map(|book| book.saved.values()).map(SavedState::bytes).sum()
    }

    /// How many subscriptions there are, of one topic or in all.
    pub(crate) fn count(&self, topic: Option<u32>) -> usize {
        let guard = self.all.lock();
        let is_counted = |book: &&Book| book.is_open && topic.is_none_or(|topic| topic == book.topic);
        guard.iter().filter(is_counted).count()
    }

    /// Looks into one book.
    pub(crate) fn with<T>(&self, number: u32, look: impl FnOnce(&Book) -> T) -> Option<T> {
        self.all.lock().books.get(&number).map(|book| look(book))
    }

    /// Number, topic and name of all subscriptions.
    pub(crate) fn list(&self) -> Vec<(u32, u32, SubscriptionName)> {
        let guard = self.all.lock();
        let open = guard.books.values().filter(|book| book.is_open);
        open.map(|book| (book.number, book.topic, book.name.clone())).collect()
    }

    /// What there is at the start can be asked for at once.
    pub(crate) fn open_all(&self) {
        self.all.lock().books.values_mut().for_each(|book| Arc::make_mut(book).is_open = true);
    }

    /// The courier is at work on it.
    pub(crate) fn open(&self, number: u32) {
        if let Some(book) = self.all.lock().books.get_mut(&number) {
            Arc::make_mut(book).is_open = true;
        }
    }

    pub(crate) fn find(&self, topic: u32, name: &SubscriptionName) -> Option<u32> {
        let guard = self.all.lock();
        let number = *guard.numbers.get(&(topic, name.clone()))?;
        guard.books.get(&number).filter(|book| book.is_open).map(|book| book.number)
    }

    /// Whether a subscription is like this. Looked at in steps: settlements wait for one of them at most.
    pub(crate) fn any(&self, mut is_meant: impl FnMut(&Book) -> bool) -> bool {
        let mut from = 0;
        loop {
            let all = self.all.lock();
            let mut last = None;
            for (number, book) in all.books.range(from..).take(LOOK_STEP) {
                if is_meant(book) {
                    return true;
                }
                last = Some(*number);
            }
            match last {
                Some(number) => from = number + 1,
                None => return false,
            }
        }
    }

    /// How far the schedule is worked off.
    pub(crate) fn schedule(&self) -> Progress {
        self.all.lock().schedule
    }

    pub(crate) fn last_number(&self) -> u32 {
        self.all.lock().last_number
    }

    /// A topic kept in memory begins anew: so do its subscriptions.
    pub(crate) fn restart_topic(&self, topic: u32) {
        for book in self.all.lock().books.values_mut().filter(|book| book.topic == topic) {
            let book = Arc::make_mut(book);
            book.standing = Standing::default();
            book.saved.clear();
        }
    }
}

// ---- as parts of a checkpoint ----

/// The kinds of state that are written here.
const NUMBERS: u64 = 0;
const BOOK: u64 = 1;
const SCHEDULE: u64 = 3;

impl Books {
    /// Takes in one part of a snapshot; false when it is none of ours.
    pub(crate) fn restore(&self, kind: u64, reader: &mut Reader<'_>) -> Result<bool, String> {
        match kind {
            NUMBERS => self.all.lock().last_number = reader.number()? as u32,
            BOOK => {
                let book = Book::decode(reader)?;
                self.all.lock().add(book);
            }
            SCHEDULE => self.all.lock().schedule = Progress::take_from(reader)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(crate) fn topic_deleted(&self, topic: u32) {
        let mut guard = self.all.lock();
        guard.books.retain(|_, book| book.topic != topic);
        guard.numbers.retain(|(of, _), _| *of != topic);
    }

    /// All books, to be written by another thread.
    pub(crate) fn snapshot(&self) -> BooksSnapshot {
        let guard = self.all.lock();
        BooksSnapshot {
            last_number: guard.last_number,
            schedule: guard.schedule,
            books: guard.books.values().cloned().collect(),
        }
    }
}

/// All books as they were at one moment; it shares its memory with those that have not changed since.
pub(crate) struct BooksSnapshot {
    last_number: u32,
    schedule: Progress,
    books: Vec<Arc<Book>>,
}

impl BooksSnapshot {
    pub(crate) fn encode(&self, push: &mut dyn FnMut(Vec<u8>)) {
        let mut numbers = vec![NUMBERS as u8];
        put_number(&mut numbers, self.last_number.into());
        push(numbers);
        if self.schedule != Progress::default() {
            let mut schedule = vec![SCHEDULE as u8];
            self.schedule.put_into(&mut schedule);
            push(schedule);
        }
        self.books.iter().for_each(|book| push(book.encode()));
    }
}

fn put_standing(bytes: &mut Vec<u8>, standing: &Standing) {
    put_ranges(bytes, &standing.settled);
    put_returned(bytes, &standing.returned);
}

fn take_standing(reader: &mut Reader<'_>, origin: u64) -> Result<Standing, String> {
    Ok(Standing { origin, settled: take_ranges(reader)?, returned: take_returned(reader)? })
}
