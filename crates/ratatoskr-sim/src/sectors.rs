//! The content of one file, sector by sector, with everything a power cut may leave of it.
//!
//! ```text
//!   sector        0         1         2         3
//!   durable     │ A │     │ B │     │ C │     (none)      ← certain after a sync
//!   versions              │ b │     │ c │c'│  │ d │       ← written since: each may have reached the
//!   current     │ A │     │ b │       │ c'│   │ d │         platter, or not, whatever its neighbours did
//! ```
//!
//! Invariants: a sector that is not in `versions` is in `current` what it is in `durable` (unless a
//! failed sync dropped it); the last version of a sector is the current one; bytes behind the length are zero.
//! This file knows nothing of names, folders or faults: it is told what happens.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use fastrand::Rng;
use ratatoskr_log::SECTOR_BYTES;

type Sector = [u8; SECTOR_BYTES];

/// A sector's content; `None` is a hole: zeros that take no room on the disk.
type Slot = Option<Arc<Sector>>;

/// Files are filled with zeros before use; those sectors share this one.
static ZEROS: LazyLock<Arc<Sector>> = LazyLock::new(|| Arc::new([0; SECTOR_BYTES]));

/// One file's content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// What a power cut cannot take.
    durable: Image,
    /// What readers see.
    current: Image,
    /// Each content a sector was given since the last sync, oldest first.
    versions: BTreeMap<usize, Vec<Slot>>,
    /// Each length the file was given since the last sync, oldest first.
    lengths: Vec<u64>,
}

/// A file at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Image {
    slots: Vec<Slot>,
    len: u64,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.current.len
    }

    /// Bytes of disk the file takes: whole sectors, holes not counted.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        (self.current.slots.iter().flatten().count() * SECTOR_BYTES) as u64
    }

    /// Bytes of disk a write would take beyond those the file has.
    pub(crate) fn missing_bytes(&self, position: u64, length: usize) -> u64 {
        let sectors = sectors_of(position, length);
        (sectors.filter(|sector| self.current.slot(*sector).is_none()).count() * SECTOR_BYTES) as u64
    }

    pub(crate) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        self.current.read(buffer, position)
    }

    pub(crate) fn write(&mut self, bytes: &[u8], position: u64) {
        let end = position + bytes.len() as u64;
        if !bytes.is_empty() && end > self.current.len {
            self.current.set_len(end);
            self.lengths.push(end);
        }
        for sector in sectors_of(position, bytes.len()) {
            let start = (sector * SECTOR_BYTES) as u64;
            let (from, to) = (start.max(position), (start + SECTOR_BYTES as u64).min(end));
            let part = &bytes[(from - position) as usize..(to - position) as usize];
            self.write_sector(sector, (from - start) as usize, part);
        }
    }

    fn write_sector(&mut self, sector: usize, at: usize, part: &[u8]) {
        let old = self.current.slot(sector);
        let is_same = old.is_some_and(|old| &old[at..at + part.len()] == part);
        if is_same && !self.was_dropped(sector) {
            return;
        }
        let mut new = old.map_or([0; SECTOR_BYTES], |old| **old);
        new[at..at + part.len()].copy_from_slice(part);
        self.put(sector, Some(shared(&new)));
    }

    /// True when a failed sync left readers with something the disk will never have, unless it is written again.
    fn was_dropped(&self, sector: usize) -> bool {
        !self.versions.contains_key(&sector) && self.durable.slot(sector) != self.current.slot(sector)
    }

    fn put(&mut self, sector: usize, slot: Slot) {
        self.current.slots[sector].clone_from(&slot);
        self.versions.entry(sector).or_default().push(slot);
    }

    /// Cuts, or grows with a hole.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len == self.current.len {
            return;
        }
        let old = self.current.clone();
        self.current.set_len(len);
        self.lengths.push(len);
        for (sector, before) in old.slots.iter().enumerate() {
            let after = self.current.slot(sector).cloned();
            if *before != after {
                self.versions.entry(sector).or_default().push(after);
            }
        }
    }

    /// Everything written becomes durable.
    pub(crate) fn sync(&mut self) {
        self.durable.set_len(self.current.len);
        for sector in std::mem::take(&mut self.versions).into_keys() {
            if let Some(slot) = self.durable.slots.get_mut(sector) {
                slot.clone_from(&self.current.slots[sector]);
            }
        }
        self.lengths.clear();
    }

    /// A sync failed: as on Linux, what was waiting counts as clean now. Readers still see it,
    /// later syncs succeed, and it never reaches the disk.
    pub(crate) fn drop_unsynced(&mut self) {
        self.versions.clear();
        self.lengths.clear();
    }

    /// The file as the disk holds it when nothing un-synced arrived.
    pub(crate) fn surviving_nothing(&self) -> Content {
        Content::durable(self.durable.clone())
    }

    /// The file as the disk holds it when everything un-synced arrived.
    pub(crate) fn surviving_everything(&self) -> Content {
        let mut arrived = self.clone();
        arrived.sync();
        Content::durable(arrived.durable)
    }

    /// The file as the disk holds it when chance decided what arrived.
    pub(crate) fn surviving_some(&self, rng: &mut Rng) -> Content {
        match rng.u8(0..5) {
            0 => self.surviving_nothing(),
            1 => self.surviving_everything(),
            2 => self.surviving_prefix(rng),
            _ => self.surviving_mix(rng),
        }
    }

    /// The first sectors arrived in their last version, the others not at all.
    fn surviving_prefix(&self, rng: &mut Rng) -> Content {
        let mut image = self.durable.clone();
        let arrived = rng.usize(0..=self.versions.len());
        for (sector, versions) in self.versions.iter().take(arrived) {
            image.put(*sector, versions.last().cloned().flatten());
        }
        image.set_len(self.any_length(rng));
        Content::durable(image)
    }

    /// Each sector is what it was at any moment since the last sync.
    fn surviving_mix(&self, rng: &mut Rng) -> Content {
        let mut image = self.durable.clone();
        for (sector, versions) in &self.versions {
            if let Some(version) = rng.usize(0..=versions.len()).checked_sub(1) {
                image.put(*sector, versions[version].clone());
            }
        }
        image.set_len(self.any_length(rng));
        Content::durable(image)
    }

    /// A length the file had since the last sync, or, where it grew, a sector's end on the way there.
    fn any_length(&self, rng: &mut Rng) -> u64 {
        let Some(chosen) = rng.usize(0..=self.lengths.len()).checked_sub(1) else { return self.durable.len };
        let to = self.lengths[chosen];
        let from = chosen.checked_sub(1).map_or(self.durable.len, |before| self.lengths[before]);
        if rng.bool() || to <= from {
            return to;
        }
        let sector = rng.u64(from / SECTOR_BYTES as u64..=to / SECTOR_BYTES as u64);
        (sector * SECTOR_BYTES as u64).clamp(from, to)
    }

    fn durable(image: Image) -> Content {
        Content { durable: image.clone(), current: image, versions: BTreeMap::new(), lengths: Vec::new() }
    }

    /// The platter changes by itself: one bit, in every version. False behind the end.
    pub(crate) fn flip_bit(&mut self, position: u64, bit: u8) -> bool {
        if position >= self.current.len {
            return false;
        }
        let (sector, at) = (position as usize / SECTOR_BYTES, position as usize % SECTOR_BYTES);
        let flip = |slot: &mut Slot| {
            let mut bytes = slot.as_ref().map_or([0; SECTOR_BYTES], |bytes| **bytes);
            bytes[at] ^= 1 << bit;
            *slot = Some(Arc::new(bytes));
        };
        self.durable.slots.get_mut(sector).into_iter().for_each(flip);
        self.current.slots.get_mut(sector).into_iter().for_each(flip);
        self.versions.get_mut(&sector).into_iter().flatten().for_each(flip);
        true
    }

    /// The file loses its end, durably.
    pub(crate) fn lose_end(&mut self, len: u64) {
        self.set_len(len.min(self.current.len));
        self.sync();
    }
}

impl Image {
    fn slot(&self, sector: usize) -> Option<&Arc<Sector>> {
        self.slots.get(sector)?.as_ref()
    }

    fn put(&mut self, sector: usize, slot: Slot) {
        if sector >= self.slots.len() {
            self.slots.resize(sector + 1, None);
        }
        self.slots[sector] = slot;
    }

    /// Sets the length; what lies behind it is gone, what comes anew is a hole.
    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.slots.resize((len as usize).div_ceil(SECTOR_BYTES), None);
        let used = len as usize % SECTOR_BYTES;
        if let Some(Some(last)) = self.slots.last_mut().filter(|_| used != 0)
            && last[used..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(last)[used..].fill(0);
        }
    }

    fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let available = self.len.saturating_sub(position).min(buffer.len() as u64) as usize;
        let mut filled = 0;
        while filled < available {
            let place = position as usize + filled;
            let (sector, at) = (place / SECTOR_BYTES, place % SECTOR_BYTES);
            let length = (SECTOR_BYTES - at).min(available - filled);
            let target = &mut buffer[filled..filled + length];
            match self.slot(sector) {
                Some(bytes) => target.copy_from_slice(&bytes[at..at + length]),
                None => target.fill(0),
            }
            filled += length;
        }
        available
    }
}

fn sectors_of(position: u64, length: usize) -> std::ops::Range<usize> {
    let first = position as usize / SECTOR_BYTES;
    if length == 0 { first..first } else { first..(position as usize + length).div_ceil(SECTOR_BYTES) }
}

fn shared(bytes: &Sector) -> Arc<Sector> {
    if *bytes == **ZEROS { ZEROS.clone() } else { Arc::new(*bytes) }
}

#[cfg(test)]
mod tests;
