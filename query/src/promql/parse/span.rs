//! Lengths of time: `5m`, and arithmetic on them.

use crate::promql::ast::{BinaryOp, Span};
use crate::promql::error::ParseError;
use crate::promql::lex::Token;

use super::{HEIGHT_MAX, Parser};

impl Parser {
    /// A length of time between brackets: arithmetic with the usual precedence.
    pub(super) fn span(&mut self, precedence_min: u8) -> Result<Span, ParseError> {
        let mut lhs = self.deeper(Self::span_operand)?;
        while let Some(op) = self.binary_operator() {
            if !(4..=6).contains(&op.precedence()) || op.precedence() < precedence_min {
                break;
            }
            self.advance();
            let next_min = op.precedence() + u8::from(op != BinaryOp::Pow);
            let rhs = self.deeper(|parser| parser.span(next_min))?;
            lhs = Span::Binary(op, Box::new(lhs), Box::new(rhs));
            self.span_operators += 1;
            if self.span_operators > HEIGHT_MAX {
                let message = format!("more than {HEIGHT_MAX} operators in duration expressions");
                return Err(ParseError::new(self.place(), message));
            }
        }
        Ok(lhs)
    }

    fn span_operand(&mut self) -> Result<Span, ParseError> {
        if self.takes("-") {
            let operand = self.deeper(|parser| parser.span(BinaryOp::Pow.precedence()))?;
            return Ok(Span::Negate(Box::new(operand)));
        }
        if self.takes("+") {
            return self.deeper(|parser| parser.span(BinaryOp::Pow.precedence()));
        }
        self.span_primary()
    }

    fn span_primary(&mut self) -> Result<Span, ParseError> {
        match self.peek().clone() {
            Token::Number(seconds) => {
                self.advance();
                Ok(Span::Seconds(seconds))
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.deeper(|parser| parser.span(0))?;
                self.expect(")", "in duration expression")?;
                Ok(inner)
            }
            Token::Word(word) => self.span_function(&word.to_ascii_lowercase()),
            _ => {
                Err(self.unexpected("in duration expression, expected number, duration, or step()"))
            }
        }
    }

    fn span_function(&mut self, word: &str) -> Result<Span, ParseError> {
        const CONTEXT: &str = "in duration expression";
        if !["step", "range", "min_of", "max_of"].contains(&word) {
            return Err(self.unexpected("in duration expression"));
        }
        self.advance();
        self.expect("(", CONTEXT)?;
        let span = match word {
            "step" => Span::Step,
            "range" => Span::Range,
            _ => {
                let first = self.deeper(|parser| parser.span(0))?;
                self.expect(",", CONTEXT)?;
                let second = self.deeper(|parser| parser.span(0))?;
                Span::Pick(word == "max_of", Box::new(first), Box::new(second))
            }
        };
        self.expect(")", CONTEXT)?;
        Ok(span)
    }

    /// What follows `offset`: one operand with a sign; longer arithmetic needs parentheses.
    pub(super) fn offset(&mut self) -> Result<Span, ParseError> {
        let negative = self.takes("-");
        if !negative {
            self.takes("+");
        }
        let span = self.deeper(Self::span_primary)?;
        Ok(if negative { Span::Negate(Box::new(span)) } else { span })
    }
}
