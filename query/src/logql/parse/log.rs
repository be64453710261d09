//! Selectors and pipelines.

use taffrail_model::{MatchOp, Matcher};

use super::super::ast::{
    Compare, Extract, FormatValue, LabelFilter, LabelFormat, LineFilterExpr, LineOp, LineTerm,
    LogExpr, Pick, StageExpr,
};
use super::super::error::ParseError;
use super::super::lexer::Kind;
use super::{Parser, matcher};

impl Parser<'_> {
    /// `{app="web"} |= "x" | json`
    pub(super) fn log_expr(&mut self) -> Result<LogExpr, ParseError> {
        let matchers = self.selector_or_none()?;
        let mut stages = Vec::new();
        while let Some(stage) = self.stage()? {
            stages.push(stage);
        }
        Ok(LogExpr { matchers, stages })
    }

    /// A selector, which may be missing where the options allow it.
    pub(super) fn selector_or_none(&mut self) -> Result<Vec<Matcher>, ParseError> {
        if self.options.allow_empty_selector && (self.is("|") || self.line_op().is_some()) {
            return Ok(Vec::new());
        }
        self.selector()
    }

    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        if self.take("}") {
            return Ok(matchers);
        }
        loop {
            let Kind::Ident(name) = self.kind().clone() else {
                let expected: &[&str] =
                    if matchers.is_empty() { &["IDENTIFIER", "}"] } else { &["IDENTIFIER"] };
                return Err(self.unexpected(expected));
            };
            self.advance();
            let Some(op) = self.match_op() else {
                return Err(self.unexpected(&["=", "!=", "=~", "!~"]));
            };
            let value = self.text()?;
            matchers.push(matcher(&name, op, &value)?);
            if self.take("}") {
                return Ok(matchers);
            }
            if !self.take(",") {
                return Err(self.unexpected(&["}", ","]));
            }
            if self.take("}") {
                return Ok(matchers);
            }
        }
    }

    pub(super) fn line_op(&self) -> Option<LineOp> {
        let Kind::Symbol(symbol) = self.kind() else {
            return None;
        };
        LineOp::ALL.into_iter().find(|op| op.symbol() == *symbol)
    }

    /// The next stage, if one begins here. `unwrap` is no stage of this kind.
    pub(super) fn stage(&mut self) -> Result<Option<StageExpr>, ParseError> {
        if let Some(op) = self.line_op() {
            self.advance();
            return self.line_filter(op).map(|filter| Some(StageExpr::Line(filter)));
        }
        let unwraps = matches!(self.kind_after(1), Kind::Ident(word) if word == "unwrap");
        if !self.is("|") || (unwraps && !self.compares_after(2)) {
            return Ok(None);
        }
        self.advance();
        self.piped().map(Some)
    }

    /// Whether the token after `count` others is the operator of a label filter: then the word
    /// before it is a label, whatever it means elsewhere.
    fn compares_after(&self, count: usize) -> bool {
        matches!(
            self.kind_after(count),
            Kind::Symbol("=" | "!=" | "=~" | "!~" | "==" | ">" | ">=" | "<" | "<=")
        )
    }

    fn piped(&mut self) -> Result<StageExpr, ParseError> {
        let word = match self.kind() {
            Kind::Ident(word) => word.clone(),
            Kind::Symbol("(") => String::new(),
            _ => return Err(self.unexpected(&["IDENTIFIER", "(", "a stage"])),
        };
        let at = self.at;
        self.advance();
        // `json != "x"` may be a parser and a line filter; only the plain signs make it a label.
        if matches!(self.kind(), Kind::Symbol("=" | "==" | ">" | ">=" | "<" | "<=" | "=~")) {
            self.at = at;
            return self.label_filter().map(StageExpr::Labels);
        }
        Ok(match word.as_str() {
            "json" => StageExpr::Json(self.extracts()?),
            "logfmt" => self.logfmt()?,
            "regexp" => StageExpr::Regexp(self.text()?),
            "pattern" => StageExpr::Pattern(self.text()?),
            "unpack" => StageExpr::Unpack,
            "decolorize" => StageExpr::Decolorize,
            "line_format" => StageExpr::LineFormat(self.text()?),
            "label_format" => StageExpr::LabelFormat(self.list(Self::label_format)?),
            "drop" => StageExpr::Drop(self.list(Self::pick)?),
            "keep" => StageExpr::Keep(self.list(Self::pick)?),
            _ => {
                self.at = at;
                StageExpr::Labels(self.label_filter()?)
            }
        })
    }

    fn line_filter(&mut self, op: LineOp) -> Result<LineFilterExpr, ParseError> {
        let mut terms = vec![self.line_term()?];
        while self.take_word("or") {
            terms.push(self.line_term()?);
        }
        Ok(LineFilterExpr { op, terms })
    }

    fn line_term(&mut self) -> Result<LineTerm, ParseError> {
        if let Kind::Text(_) = self.kind() {
            return self.text().map(LineTerm::Text);
        }
        if self.is_word("ip") {
            return self.ip_pattern().map(LineTerm::Ip);
        }
        Err(self.unexpected(&["STRING", "ip"]))
    }

    fn ip_pattern(&mut self) -> Result<String, ParseError> {
        self.advance();
        self.expect("(")?;
        let pattern = self.text()?;
        self.expect(")")?;
        Ok(pattern)
    }

    fn extracts(&mut self) -> Result<Vec<Extract>, ParseError> {
        if !matches!(self.kind(), Kind::Ident(_)) {
            return Ok(Vec::new());
        }
        self.list(|parser| {
            let label = parser.ident()?;
            let path = if parser.take("=") { parser.text()? } else { label.clone() };
            Ok(Extract { label, path })
        })
    }

    fn logfmt(&mut self) -> Result<StageExpr, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while self.is("-") {
            let start = self.offset();
            self.advance();
            self.expect("-")?;
            if self.take_word("strict") {
                strict = true;
            } else if self.take_word("keep") && self.take("-") && self.take_word("empty") {
                keep_empty = true;
            } else {
                let message = "syntax error: unexpected flag, expecting --strict or --keep-empty";
                return Err(ParseError::at(self.query, start, message));
            }
        }
        Ok(StageExpr::Logfmt { strict, keep_empty, extracts: self.extracts()? })
    }

    fn label_format(&mut self) -> Result<LabelFormat, ParseError> {
        let name = self.ident()?;
        self.expect("=")?;
        let value = match self.kind().clone() {
            Kind::Ident(from) => FormatValue::Rename(from),
            Kind::Text(template) => FormatValue::Template(template),
            _ => return Err(self.unexpected(&["IDENTIFIER", "STRING"])),
        };
        self.advance();
        Ok(LabelFormat { name, value })
    }

    fn pick(&mut self) -> Result<Pick, ParseError> {
        let name = self.ident()?;
        let Some(op) = self.match_op() else {
            return Ok(Pick::Name(name));
        };
        let value = self.text()?;
        matcher(&name, op, &value).map(Pick::Matcher)
    }

    /// `a="x" or b>3 and c<1s`; `and` binds tighter than `or`.
    pub(super) fn label_filter(&mut self) -> Result<LabelFilter, ParseError> {
        let mut alternatives = vec![self.label_filter_and()?];
        while self.take_word("or") {
            alternatives.push(self.label_filter_and()?);
        }
        Ok(one_or(alternatives, LabelFilter::Or))
    }

    fn label_filter_and(&mut self) -> Result<LabelFilter, ParseError> {
        let mut all = vec![self.label_filter_unit()?];
        loop {
            let joined = self.take_word("and") || self.take(",");
            // Side by side means `and` too; a word that begins something else ends the filter.
            let begins =
                self.is("(") || (matches!(self.kind(), Kind::Ident(_)) && !self.is_word("or"));
            if !joined && !begins {
                return Ok(one_or(all, LabelFilter::And));
            }
            all.push(self.label_filter_unit()?);
        }
    }

    fn label_filter_unit(&mut self) -> Result<LabelFilter, ParseError> {
        if self.take("(") {
            let inner = self.nested(Self::label_filter)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.ident()?;
        if let Some(filter) = self.text_filter(&name)? {
            return Ok(filter);
        }
        let op = match self.kind() {
            Kind::Symbol("=") => Some(Compare::Equal),
            Kind::Symbol(symbol) => Compare::ALL.into_iter().find(|op| op.symbol() == *symbol),
            _ => None,
        };
        let Some(op) = op else {
            return Err(self.unexpected(&["=", "!=", "=~", "!~", "==", ">", ">=", "<", "<="]));
        };
        self.advance();
        self.number_filter(name, op)
    }

    /// A filter whose right side is a string or an address.
    fn text_filter(&mut self, name: &str) -> Result<Option<LabelFilter>, ParseError> {
        let is_text = matches!(self.kind_after(1), Kind::Text(_));
        let is_ip = matches!(self.kind_after(1), Kind::Ident(word) if word == "ip");
        if !is_text && !is_ip {
            return Ok(None);
        }
        let Some(op) = self.match_op() else {
            // `==` and its kin compare numbers: the right side is what is wrong.
            if matches!(self.kind(), Kind::Symbol(_)) {
                self.advance();
            }
            return Err(self.unexpected(&["NUMBER", "DURATION", "BYTES"]));
        };
        if is_text {
            let value = self.text()?;
            return matcher(name, op, &value).map(|matcher| Some(LabelFilter::Text(matcher)));
        }
        let equal = match op {
            MatchOp::Equal => true,
            MatchOp::NotEqual => false,
            MatchOp::Regex | MatchOp::NotRegex => return Err(self.unexpected(&["STRING"])),
        };
        let pattern = self.ip_pattern()?;
        Ok(Some(LabelFilter::Ip { name: name.to_owned(), equal, pattern }))
    }

    fn number_filter(&mut self, name: String, op: Compare) -> Result<LabelFilter, ParseError> {
        let negative = self.take("-");
        let filter = match *self.kind() {
            Kind::Number(value) => {
                LabelFilter::Number { name, op, value: if negative { -value } else { value } }
            }
            Kind::Duration(nanos) => {
                LabelFilter::Duration { name, op, nanos: if negative { -nanos } else { nanos } }
            }
            Kind::Bytes(bytes) if !negative => LabelFilter::Bytes { name, op, bytes },
            _ => return Err(self.unexpected(&["NUMBER", "DURATION", "BYTES", "STRING"])),
        };
        self.advance();
        Ok(filter)
    }
}

fn one_or(
    mut filters: Vec<LabelFilter>,
    many: impl FnOnce(Vec<LabelFilter>) -> LabelFilter,
) -> LabelFilter {
    if filters.len() == 1 { filters.remove(0) } else { many(filters) }
}
