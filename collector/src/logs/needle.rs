//! A text that lines should contain, looked for in templates.
//!
//! A template's text between two marks is in each of its lines, so a hit there holds for all of them.
//! Elsewhere the needle can only lie wholly or partly in values. A value is a whole token, so only the
//! tokens of the needle can be in one: that its bytes are among those of the slot is looked at first,
//! then whether the needle fits template and slots from end to end.
//!
//! Pure.

use memchr::memmem::Finder;

use super::templates::{END, PLACE, SEPARATES, Slot, Templates, UPPER, is_variable, mask_of};
use super::token::tokens;

/// Longest needle that is fitted into templates; of a longer one it is taken that it may fit.
const FIT_BYTES_MAX: usize = 64;

/// A text with what is known of it.
pub(super) struct Needle {
    finder: Finder<'static>,
    /// Masks of the parts that could lie in a value.
    parts: Vec<u32>,
    /// It is one token or a part of one, so that it lies in one value or in none.
    is_word: bool,
    /// It has a byte that stands for something else in a template's text.
    has_marks: bool,
    /// Which of its bytes each byte value is, as bits; for those that are fitted.
    places: Option<Box<[u64; 256]>>,
}

/// What a needle finds in each template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// In none of its lines.
    Never,
    /// Only values can tell.
    Perhaps,
    /// In each of its lines.
    Always,
}

impl Needle {
    /// A needle for these bytes.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut is_word = false;
        for token in tokens(text) {
            let mask = mask_of(&text[token.start..token.end]);
            let (at_start, at_end) = (token.start == 0, token.end == text.len());
            is_word |= at_start && at_end;
            if at_start || at_end || is_variable(mask, token.end - token.start) {
                parts.push(mask);
            }
        }
        let places = (text.len() <= FIT_BYTES_MAX).then(|| {
            let mut places = Box::new([0_u64; 256]);
            for (at, &byte) in text.iter().enumerate() {
                places[usize::from(byte)] |= 1 << at;
            }
            places
        });
        Self {
            finder: Finder::new(text).into_owned(),
            parts,
            is_word,
            has_marks: text.contains(&PLACE) || text.contains(&END),
            places,
        }
    }

    /// The needle's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Whether it lies in one value or in none.
    pub(super) fn is_word(&self) -> bool {
        self.is_word
    }

    /// Whether it is in a text.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        self.finder.find(text).is_some()
    }

    /// Calls back with each place where it is in a text, from left to right, without overlap.
    pub(super) fn each_in(&self, text: &[u8], each: impl FnMut(usize)) {
        self.finder.find_iter(text).for_each(each);
    }

    /// Whether a value of a slot can contain all of it, or part of it.
    pub(super) fn may_touch(&self, slot: &Slot) -> bool {
        let fits = !self.is_word || slot.width == 0 || self.bytes().len() <= slot.width.into();
        fits && self.parts.iter().any(|part| part & !slot.mask == 0)
    }

    /// Looks at all templates. `text` is their text, perhaps in lower case as the needle then is.
    pub(super) fn look(&self, templates: &Templates, text: &[u8], sights: &mut Vec<Sight>) {
        sights.clear();
        if self.bytes().is_empty() {
            sights.resize(templates.len(), Sight::Always);
            return;
        }
        if self.has_marks {
            // A line's own mark is a value.
            let own = |&template: &usize| {
                let slots = &templates.slots[templates.slots_of(template)];
                slots.iter().any(|slot| slot.mask & SEPARATES != 0)
            };
            let sight = |template| if own(&template) { Sight::Perhaps } else { Sight::Never };
            sights.extend((0..templates.len()).map(sight));
            return;
        }
        sights.resize(templates.len(), Sight::Never);
        self.look_at_text(templates, text, sights);
        if self.parts.is_empty() {
            return;
        }
        for (template, sight) in sights.iter_mut().enumerate() {
            if *sight == Sight::Never {
                let slots = &templates.slots[templates.slots_of(template)];
                if slots.iter().any(|slot| self.may_touch(slot))
                    && (self.is_word || self.fits(templates, text, template))
                {
                    *sight = Sight::Perhaps;
                }
            }
        }
    }

    fn look_at_text(&self, templates: &Templates, text: &[u8], sights: &mut [Sight]) {
        let (mut at, mut template) = (0, 0);
        while let Some(found) = text.get(at..).and_then(|rest| self.finder.find(rest)) {
            let hit = (at + found) as u32;
            template += templates.ends[template..].partition_point(|&end| end < hit);
            let Some(sight) = sights.get_mut(template) else { return };
            *sight = Sight::Always;
            at = templates.ends[template] as usize + 1;
            template += 1;
        }
    }

    /// Whether the needle can lie in a line of the template: all its places are followed at once, as
    /// bits (the `n`th bit: the first `n + 1` bytes fit and end here).
    fn fits(&self, templates: &Templates, text: &[u8], template: usize) -> bool {
        let Some(places) = &self.places else { return true };
        let bytes = self.bytes();
        let last = 1_u64 << (bytes.len() - 1);
        let mut slot = templates.slots_of(template).start;
        let range = templates.range_of(template);
        let mut state = 0_u64;
        for &byte in &text[range] {
            if byte != PLACE {
                state = (state << 1 | 1) & places[usize::from(byte)];
            } else {
                let known = templates.slots[slot];
                slot += 1;
                let inside = bytes.iter().rev().fold(0, |bits, &byte| {
                    bits << 1 | u64::from(mask_of(&[byte]) & !UPPER & !known.mask == 0)
                });
                let mut ends = 0;
                let width = usize::from(known.width);
                for length in 1..=if width == 0 { bytes.len() } else { width.min(bytes.len()) } {
                    state = (state << 1 | 1) & inside;
                    if state & last != 0 {
                        return true;
                    }
                    if width == 0 || length == width.min(bytes.len()) {
                        ends |= state;
                    }
                }
                state = ends;
            }
            if state & last != 0 {
                return true;
            }
        }
        false
    }
}
