//! A block while a query looks at it: its columns are read and decompressed as they are needed.
//!
//! First come templates, template of each row and times, which lie together. Values and metadata are
//! read only when a filter cannot decide by templates, or when lines are wanted; then only those lines
//! are put together. A block of format 1 is read whole.

use taffrail_model::{Nanos, TimeRange};

use super::block::{self, Damage, Decoder};
use super::filter::Filter;
use super::header::{DIGITS, Header, LEVELS, METADATA, NIBBLES, ROWS, TEMPLATES, TEXTS, TIMES};
use super::judge::{Verdict, Verdicts};
use super::known::{self, OfSegment};
use super::metadata;
use super::passing::Passing;
use super::rows::{Metadata, Rows};
use super::segment::Segment;
use super::templates::{MIXED, Templates};
use super::variables::Values;

/// An opened block.
pub(super) struct Opened<'s> {
    segment: &'s Segment,
    header: &'s Header,
    body: Body,
}

enum Body {
    Plain(Rows),
    Split(Box<Split>),
}

struct Split {
    front: Front,
    templates: Templates,
    /// By row, once it is needed: template, and number among the template's rows.
    rows: Option<Vec<(u32, u32)>>,
    times: Option<Vec<Nanos>>,
    values: Option<Values>,
}

/// The columns that lie together at the begin of a block, as compressed.
struct Front {
    from: u32,
    bytes: Vec<u8>,
}

type Result<T> = std::io::Result<T>;

fn damage(damage: Damage) -> std::io::Error {
    std::io::Error::other(damage)
}

impl<'s> Opened<'s> {
    /// Opens a block of a segment.
    pub(super) fn new(
        segment: &'s Segment,
        header: &'s Header,
        decoder: &mut Decoder,
    ) -> Result<Self> {
        let body = if header.format == 1 {
            let payload = segment.read(header.offset, header.payload_bytes())?;
            Body::Plain(block::decode_1(header, &payload, decoder).map_err(damage)?)
        } else {
            let (from, bytes) = header.stretch(TEMPLATES, LEVELS);
            let bytes = segment.read(header.offset.saturating_add(from.into()), bytes)?;
            let front = Front { from, bytes };
            let column = front.column(header, TEMPLATES)?;
            let column = decoder.unzstd(column).map_err(damage)?;
            let templates = Templates::read(column, header.rows).map_err(damage)?;
            Body::Split(Box::new(Split { front, templates, rows: None, times: None, values: None }))
        };
        Ok(Self { segment, header, body })
    }

    /// The times of all rows.
    pub(super) fn times(&mut self) -> Result<&[Nanos]> {
        match &mut self.body {
            Body::Plain(rows) => Ok(&rows.ts),
            Body::Split(split) => split.times(self.header),
        }
    }

    /// The rows that pass.
    pub(super) fn passing(&mut self, filter: &Filter, decoder: &mut Decoder) -> Result<Passing> {
        if let Body::Plain(rows) = &self.body {
            return Ok(Passing::Some(filter.passing(rows)));
        }
        let all = self.passing_at_any_time(filter, decoder)?;
        self.within(all, filter.range())
    }

    /// The rows that pass, as [`Opened::passing`]; what is known of the block spares the look, and what
    /// is found will be known.
    pub(super) fn passing_known(
        &mut self,
        filter: &Filter,
        known: Option<(&OfSegment, u32)>,
        decoder: &mut Decoder,
    ) -> Result<Passing> {
        let (Some((known, number)), Body::Split(_)) = (known, &self.body) else {
            return self.passing(filter, decoder);
        };
        let all = match known.get(number) {
            Some(known::Rows::All) => Passing::All(0..self.header.rows as usize),
            Some(rows) => Passing::Some(rows.numbers(self.header.rows)),
            None => {
                let all = self.passing_at_any_time(filter, decoder)?;
                known.put(number, || all.to_known(self.header.rows));
                all
            }
        };
        self.within(all, filter.range())
    }

    /// Those of some rows that are in a range of time.
    fn within(&mut self, all: Passing, range: Option<TimeRange>) -> Result<Passing> {
        let Some(range) =
            range.filter(|&range| !all.is_empty() && !range_holds(range, self.header))
        else {
            return Ok(all);
        };
        let times = self.times()?;
        let start = times.partition_point(|&ts| ts < range.start);
        let end = times.partition_point(|&ts| ts < range.end).max(start);
        Ok(match all {
            Passing::All(rows) => {
                let start = rows.start.max(start);
                Passing::All(start..rows.end.min(end).max(start))
            }
            Passing::Some(mut rows) => {
                rows.retain(|&row| (start..end).contains(&(row as usize)));
                Passing::Some(rows)
            }
        })
    }

    /// The rows of a block with templates that pass, whatever their time.
    fn passing_at_any_time(&mut self, filter: &Filter, decoder: &mut Decoder) -> Result<Passing> {
        let Body::Split(split) = &mut self.body else { return Ok(Passing::All(0..0)) };
        let verdicts = filter.judge().verdicts(&split.templates);
        if verdicts.are_no() {
            return Ok(Passing::All(0..0));
        }
        let all = 0..self.header.rows as usize;
        let looked = if verdicts.need_values() {
            self.look(filter, &verdicts, decoder)?
        } else {
            Vec::new()
        };
        let Body::Split(split) = &mut self.body else { return Ok(Passing::All(0..0)) };
        if verdicts.all.iter().all(|&verdict| verdict == Verdict::Yes) {
            return Ok(Passing::All(all));
        }
        let rows = split.rows(self.header, decoder)?;
        let passes = |&row: &usize| {
            let (template, index) = rows[row];
            match verdicts.all[template as usize] {
                Verdict::No => false,
                Verdict::Yes => true,
                Verdict::Look => looked[template as usize][index as usize],
            }
        };
        Ok(Passing::Some(all.filter(passes).map(|row| row as u32).collect()))
    }

    /// How many rows of each level pass, whatever their time, when templates can tell.
    pub(super) fn count_by_template(&self, filter: &Filter) -> Option<Vec<(u8, u64)>> {
        let Body::Split(split) = &self.body else { return None };
        let templates = &split.templates;
        let verdicts = filter.judge().verdicts(templates);
        if verdicts.need_values() {
            return None;
        }
        let mut counts: Vec<(u8, u64)> = Vec::new();
        let passing = (0..templates.len()).filter(|&at| verdicts.all[at] == Verdict::Yes);
        for template in passing {
            let level = self.header.level().unwrap_or(templates.levels[template]);
            if level == MIXED {
                return None;
            }
            let rows = u64::from(templates.rows[template]);
            match counts.iter_mut().find(|(known, _)| *known == level) {
                Some((_, count)) => *count += rows,
                None => counts.push((level, rows)),
            }
        }
        Some(counts)
    }

    /// Lengths of all rows' texts.
    pub(super) fn lengths(&mut self, decoder: &mut Decoder) -> Result<Vec<u32>> {
        if let Body::Plain(rows) = &self.body {
            return Ok((0..rows.len()).map(|row| rows.line(row).len() as u32).collect());
        }
        self.read_values(decoder)?;
        let Body::Split(split) = &mut self.body else { return Ok(Vec::new()) };
        split.rows(self.header, decoder)?;
        let Split { templates, rows: Some(rows), values: Some(values), .. } = &**split else {
            return Ok(Vec::new());
        };
        let length = |&(template, index): &(u32, u32)| {
            let template = template as usize;
            let slots = templates.slots_of(template);
            let literal = templates.range_of(template).len() - slots.len();
            let of_values: usize = slots.map(|slot| values.get(slot, index as usize).len()).sum();
            (literal + of_values) as u32
        };
        Ok(rows.iter().map(length).collect())
    }

    /// Of each template whose values have to be looked at, which rows pass.
    fn look(
        &mut self,
        filter: &Filter,
        verdicts: &Verdicts,
        decoder: &mut Decoder,
    ) -> Result<Vec<Vec<bool>>> {
        self.read_values(decoder)?;
        let Body::Split(split) = &self.body else { return Ok(Vec::new()) };
        let Some(values) = &split.values else { return Ok(Vec::new()) };
        let templates = &split.templates;
        let look = |(template, &verdict): (usize, &Verdict)| match verdict {
            Verdict::Look => {
                let line = |index: usize, out: &mut Vec<u8>| {
                    templates.line(template, |slot| values.get(slot, index), out);
                };
                filter.judge().look(templates, template, values, verdicts, line)
            }
            Verdict::No | Verdict::Yes => Vec::new(),
        };
        Ok(verdicts.all.iter().enumerate().map(look).collect())
    }

    fn read_values(&mut self, decoder: &mut Decoder) -> Result<()> {
        let (segment, header) = (self.segment, self.header);
        let Body::Split(split) = &mut self.body else { return Ok(()) };
        if split.values.is_some() {
            return Ok(());
        }
        let (from, bytes) = header.stretch(DIGITS, NIBBLES);
        let bytes = segment.read(header.offset.saturating_add(from.into()), bytes)?;
        let back = Front { from, bytes };
        let digits = decoder.unzstd(back.column(header, DIGITS)?).map_err(damage)?;
        let texts = decoder.unzstd(back.column(header, TEXTS)?).map_err(damage)?;
        let nibbles = back.column(header, NIBBLES)?;
        let most = header.text_bytes as usize;
        let values = Values::read(&split.templates, digits, texts, nibbles, most);
        split.values = Some(values.map_err(damage)?);
        Ok(())
    }

    /// Levels of all rows.
    pub(super) fn levels(&mut self, decoder: &mut Decoder) -> Result<Vec<u8>> {
        match &mut self.body {
            Body::Plain(rows) => Ok(rows.levels.clone()),
            Body::Split(split) => split.levels(self.header, decoder),
        }
    }

    /// Some rows by their numbers, in that order.
    pub(super) fn rows(&mut self, numbers: &[u32], decoder: &mut Decoder) -> Result<Rows> {
        if let Body::Plain(rows) = &mut self.body {
            if numbers.iter().copied().eq(0..rows.len() as u32) {
                return Ok(std::mem::take(rows));
            }
            let mut some = Rows::default();
            numbers.iter().for_each(|&row| some.push_from(rows, row as usize));
            return Ok(some);
        }
        self.read_values(decoder)?;
        let levels = self.levels(decoder)?;
        let metadata = self.metadata(decoder)?;
        let Body::Split(split) = &mut self.body else { return Ok(Rows::default()) };
        split.rows(self.header, decoder)?;
        split.times(self.header)?;
        let Split {
            templates, rows: Some(places), times: Some(times), values: Some(values), ..
        } = &**split
        else {
            return Ok(Rows::default());
        };
        let mut text = Vec::new();
        let mut some = Rows::default();
        for (at, &number) in numbers.iter().enumerate() {
            let row = number as usize;
            let (template, index) = places[row];
            templates.line(template as usize, |slot| values.get(slot, index as usize), &mut text);
            some.ends.push(text.len() as u32);
            text.push(super::rows::SEPARATOR);
            some.ts.push(times[row]);
            some.levels.push(levels[row]);
            some.metadata.push(at, metadata.of(row));
        }
        some.text = String::from_utf8(text).map_err(|_| damage(Damage("text is not UTF-8")))?;
        let is_whole =
            numbers.len() < places.len() || some.text.len() == self.header.text_bytes as usize;
        if is_whole { Ok(some) } else { Err(damage(Damage("length of the text"))) }
    }

    fn metadata(&self, decoder: &mut Decoder) -> Result<Metadata> {
        let column = self.header.columns[METADATA];
        if column.bytes == 0 {
            return Ok(Metadata::default());
        }
        let at = self.header.offset.saturating_add(column.at.into());
        let bytes = self.segment.read(at, column.bytes as usize)?;
        let bytes = column.of(&bytes, column.at).map_err(damage)?;
        let bytes = decoder.unzstd(bytes).map_err(damage)?;
        metadata::read(&bytes, self.header.rows as usize).map_err(damage)
    }
}

fn range_holds(range: TimeRange, header: &Header) -> bool {
    range.contains(header.first) && range.contains(header.last)
}

impl Front {
    fn column(&self, header: &Header, column: usize) -> Result<&[u8]> {
        header.columns[column].of(&self.bytes, self.from).map_err(damage)
    }
}

impl Split {
    fn times(&mut self, header: &Header) -> Result<&[Nanos]> {
        if self.times.is_none() {
            let column = self.front.column(header, TIMES)?;
            self.times = Some(block::times(header, column).map_err(damage)?);
        }
        Ok(self.times.as_deref().unwrap_or_default())
    }

    fn rows(&mut self, header: &Header, decoder: &mut Decoder) -> Result<&[(u32, u32)]> {
        if self.rows.is_none() {
            let column = self.front.column(header, ROWS)?;
            let counts = &self.templates.rows;
            let rows = block::decode_rows(column, header.rows as usize, counts, decoder);
            let mut next = vec![0; counts.len()];
            let numbered = rows.map_err(damage)?.into_iter().map(|template| {
                let index = &mut next[template as usize];
                *index += 1;
                (template, *index - 1)
            });
            self.rows = Some(numbered.collect());
        }
        Ok(self.rows.as_deref().unwrap_or_default())
    }

    fn levels(&mut self, header: &Header, decoder: &mut Decoder) -> Result<Vec<u8>> {
        if let Some(level) = header.level() {
            return Ok(vec![level; header.rows as usize]);
        }
        if self.templates.levels.contains(&MIXED) {
            let column = self.front.column(header, LEVELS)?;
            return decoder.unzstd_exact(column, header.rows as usize).map_err(damage);
        }
        self.rows(header, decoder)?;
        let rows = self.rows.as_deref().unwrap_or_default();
        Ok(rows.iter().map(|&(template, _)| self.templates.levels[template as usize]).collect())
    }
}
