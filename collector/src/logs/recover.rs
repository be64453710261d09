//! A manifest that is damaged or gone, from the one before it and from what the segments say of
//! themselves.
//!
//! Between two manifests lies one change: a flush, a merge, or segments that are removed.
//! - **A flush** counts when all of its segments are there, whether or not the lost manifest named
//!   them: they say up to where the write-ahead log is in them and which positions they moved. If one
//!   is missing, no manifest named them, and the log still has their frames.
//! - **A merged segment** counts in place of its inputs when one of those is gone, for they are
//!   removed only after a manifest has named it. Else the inputs count.
//! - What the manifest before names and is gone is reported as any missing segment.
//!
//! The damaged file is kept as `manifest.damaged`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Error;
use super::manifest::{self, Manifest};
use super::meta::Meta;
use super::open::{SEGMENTS, STREAMS};
use super::segment::Segment;
use super::streams::StreamsFile;

const DAMAGED: &str = "manifest.damaged";

/// Rebuilds the manifest and writes it. `None` when there is none before it.
pub(super) fn manifest(dir: &Path, why: &str) -> Result<Option<Manifest>, Error> {
    let Some(mut manifest) = manifest::read_previous(dir)? else { return Ok(None) };
    let path = dir.join(manifest::NAME);
    tracing::error!(
        path = %path.display(), why,
        "the manifest is rebuilt from the one before it and the segments"
    );
    let unnamed = unnamed(dir, &manifest)?;
    for (name, found) in &unnamed {
        take_merged(dir, name, &found.meta, &mut manifest);
    }
    take_flush(dir, &unnamed, &mut manifest)?;
    let names = unnamed.keys().chain(&manifest.segments);
    let highest = names.filter_map(|name| number_of(name)).max();
    manifest.next_segment = manifest.next_segment.max(highest.map_or(0, |number| number + 1));
    match fs::rename(&path, dir.join(DAMAGED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        moved => moved.map_err(Error::io("move", &path))?,
    }
    manifest::write(dir, &manifest)?;
    Ok(Some(manifest))
}

/// A segment that no manifest names.
struct Found {
    meta: Meta,
    /// Streams that must be known for it, by their number.
    streams: u32,
}

/// The whole segments that a manifest does not name.
fn unnamed(dir: &Path, manifest: &Manifest) -> Result<BTreeMap<String, Found>, Error> {
    let dir = dir.join(SEGMENTS);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
        let path = entry.map_err(Error::io("list", &dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !manifest.segments.contains(&name)
            && let Ok(segment) = Segment::open(&path)
        {
            let streams = segment.headers().last().map_or(0, |header| header.stream + 1);
            found.insert(name, Found { meta: segment.meta().clone(), streams });
        }
    }
    Ok(found)
}

/// Puts a merged segment in place of its inputs, if some of them are gone.
fn take_merged(dir: &Path, name: &str, meta: &Meta, manifest: &mut Manifest) {
    let is_input = |name: &String| meta.inputs.contains(name);
    let all_named = meta.inputs.iter().all(|input| manifest.segments.contains(input));
    let is_gone = |input: &String| !dir.join(SEGMENTS).join(input).exists();
    let Some(at) = manifest.segments.iter().position(is_input) else { return };
    if all_named && meta.inputs.iter().any(is_gone) {
        manifest.segments.retain(|name| !is_input(name));
        manifest.segments.insert(at.min(manifest.segments.len()), name.to_owned());
    }
}

/// Adds the segments of a flush, if all are there.
fn take_flush(
    dir: &Path,
    unnamed: &BTreeMap<String, Found>,
    manifest: &mut Manifest,
) -> Result<(), Error> {
    let notes =
        unnamed.iter().filter_map(|(name, found)| Some((name, found, found.meta.flush.as_ref()?)));
    let mut flushes: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for (name, found, note) in notes.filter(|(.., note)| note.end_seq > manifest.replay_from) {
        flushes.entry(note.end_seq).or_default().push((name, found, note));
    }
    // One at the most was between the two manifests; of failed attempts the last one is as good.
    let Some((&end_seq, parts)) = flushes.iter_mut().next() else { return Ok(()) };
    parts.sort_unstable_by_key(|(name, _, note)| (std::cmp::Reverse(number_of(name)), note.part));
    let Some(count) = parts.first().map(|(.., note)| note.parts as usize) else { return Ok(()) };
    parts.truncate(count);
    parts.sort_unstable_by_key(|(.., note)| note.part);
    let is_whole = parts.iter().map(|(.., note)| note.part).eq(0..count as u32);
    let (bytes, streams) = StreamsFile::whole(&dir.join(STREAMS), manifest.streams_bytes)?;
    let known = manifest.streams_count + streams;
    // Streams are written after segments: without them no manifest has named these.
    if !is_whole || parts.iter().any(|(_, found, _)| found.streams > known) {
        return Ok(());
    }
    manifest.streams_bytes = bytes;
    manifest.streams_count = known;
    manifest.replay_from = end_seq;
    for (name, _, note) in parts {
        manifest.segments.push((*name).clone());
        manifest.positions.extend(note.positions.clone());
    }
    Ok(())
}

/// The number in a segment's name.
fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.rsplit('-').next()?, 16).ok()
}
