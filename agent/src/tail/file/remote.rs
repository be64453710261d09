//! A log file on a network file system: whatever is done with it, its lane does.
//!
//! A read is asked for with all that it needs, and may be answered at a later look. Until then the
//! file is what it was: neither at its end nor gone. What was asked for at another position counts
//! for nothing.

use std::io;
use std::path::PathBuf;

use super::disk::{Fetched, bytes_before, fetch, open};
use crate::tail::identity::{self, FileId, Look};
use crate::tail::lane::{Asked, Held, Lane};

/// What one read brings at most: it is held until somebody comes for it.
const READ_BYTES: usize = 128 << 10;

/// The file and its lane.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) lane: Lane,
    /// None: it is opened for the next read, if it has changed.
    pub(super) held: Option<Held>,
    /// What was seen of it last.
    pub(super) look: Option<Look>,
    asked: Asked<Reply>,
    /// Whether the bytes before the position are not known.
    due: bool,
}

/// Which file, and where in it.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) id: FileId,
    pub(super) path: PathBuf,
    pub(super) beneath: Option<PathBuf>,
    pub(super) position: u64,
    pub(super) between_lines: bool,
}

#[derive(Debug)]
struct Reply {
    held: Option<Held>,
    look: Option<Look>,
    tail: Option<Vec<u8>>,
    buffer: Vec<u8>,
    fetched: Fetched,
}

impl Remote {
    /// A file of which nothing is known but where it is.
    pub(super) fn new(lane: Lane, held: Option<Held>, look: Option<Look>) -> Box<Self> {
        Box::new(Self { lane, held, look, asked: Asked::default(), due: true })
    }

    /// From now on it is read from another place.
    pub(super) fn turn_to(&mut self) {
        self.asked = Asked::default();
        self.due = true;
    }

    /// Reads behind the spot, before which there is `tail`, into `buffer`.
    pub(super) fn read(
        &mut self,
        spot: Spot,
        tail: &mut Vec<u8>,
        buffer: &mut [u8],
    ) -> io::Result<Fetched> {
        let room = buffer.len() - tail.len();
        let known = (!self.due).then(|| tail.clone());
        let held = self.held.as_ref().map(Held::share);
        let lane = self.lane.clone();
        let seen = self.look.map(|look| look.modified);
        let known_room = room.min(READ_BYTES);
        let look = move || match held {
            Some(held) => read(&spot, known.as_deref(), held, known_room),
            None => look_and_read(&spot, known.as_deref(), seen, lane, known_room),
        };
        let reply = match self.asked.get(&self.lane, look) {
            Ok(reply) => reply,
            Err(error) => {
                if error.kind() == io::ErrorKind::StaleNetworkFileHandle {
                    self.held = None;
                }
                return Err(error);
            }
        };
        self.look = reply.look;
        if reply.held.is_some() {
            self.held = reply.held;
        }
        if let Some(bytes) = reply.tail {
            *tail = bytes;
            self.due = false;
        }
        Ok(match reply.fetched {
            Fetched::Data(range) => {
                // What is not taken now is read again.
                let bytes = &reply.buffer[range];
                let bytes = &bytes[..bytes.len().min(room)];
                buffer[..bytes.len()].copy_from_slice(bytes);
                Fetched::Data(0..bytes.len())
            }
            other => other,
        })
    }

    /// The bytes before the spot.
    pub(super) fn bytes_before(&self, spot: Spot) -> io::Result<Vec<u8>> {
        let held = self.held.as_ref().map(Held::share);
        let lane = self.lane.clone();
        self.lane.run(move || {
            let held = held.map_or_else(|| reopen(&spot, lane), |held| Ok(Some(held)))?;
            let held = held.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            bytes_before(held.file(), spot.position)
        })
    }
}

/// Opens a file that is not open, if it has changed since it was `seen`, and reads. Runs in the lane.
fn look_and_read(
    spot: &Spot,
    known: Option<&[u8]>,
    seen: Option<i64>,
    lane: Lane,
    room: usize,
) -> io::Result<Reply> {
    let nothing =
        |look| Reply { held: None, look, tail: None, buffer: Vec::new(), fetched: Fetched::End };
    let look = match identity::look_at(&spot.path, false) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        look => look.ok().filter(|look| look.id == spot.id),
    };
    let changed = |look: Look| look.size != spot.position || Some(look.modified) != seen;
    if !look.is_some_and(changed) {
        return Ok(nothing(look));
    }
    match reopen(spot, lane)? {
        Some(held) => read(spot, known, held, room),
        None => Ok(nothing(None)),
    }
}

/// Runs in the lane.
fn read(spot: &Spot, known: Option<&[u8]>, held: Held, room: usize) -> io::Result<Reply> {
    let (file, at) = (held.file(), spot.position);
    let look = Some(identity::look(file)?);
    let before = known.map_or_else(|| bytes_before(file, at), |tail| Ok(tail.to_vec()));
    let tail = match before {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let fetched = Fetched::Replaced;
            let held = held.keep();
            return Ok(Reply { held, look, tail: None, buffer: Vec::new(), fetched });
        }
        before => before?,
    };
    let new = look.map_or(0, |look| look.size).saturating_sub(at);
    let new = usize::try_from(new).unwrap_or(usize::MAX).clamp(1, room.max(1));
    let mut buffer = vec![0; tail.len() + new];
    let fetched = fetch(file, &mut buffer, &tail, at, spot.between_lines)?;
    let tail = known.is_none().then_some(tail);
    let held = held.keep();
    Ok(Reply { held, look, tail, buffer, fetched })
}

/// Opens it where it was seen last, if it is still what is there.
fn reopen(spot: &Spot, lane: Lane) -> io::Result<Option<Held>> {
    let held = Held::new(open(&spot.path, spot.beneath.as_deref())?, lane);
    let same = identity::look(held.file())?.id == spot.id;
    Ok(same.then_some(held))
}
