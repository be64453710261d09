//! Values of templates.

use regex::Regex;
use taffrail_model::Nanos;
use taffrail_model::time::format_rfc3339;

use super::super::units::format_float;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(Nanos),
    /// A constant expression, compiled with the template.
    Regex(Regex),
}

impl Value {
    /// Appends the value as Go's `%v`.
    pub(super) fn print(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&format_float(*value)),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Time(ts) => out.push_str(&format_rfc3339(*ts)),
            Self::Regex(regex) => out.push_str(regex.as_str()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            _ => {
                let mut out = String::new();
                self.print(&mut out);
                out
            }
        }
    }

    /// Go's truth: not empty, not zero.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Bool(value) => *value,
            Self::Time(_) | Self::Regex(_) => true,
        }
    }

    /// As a whole number; text that is none counts as 0, as in the library that Loki uses.
    pub(super) fn int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            // Saturates, and NaN becomes 0.
            Self::Float(value) => *value as i64,
            Self::Bool(value) => i64::from(*value),
            Self::Text(text) => text.trim().parse().unwrap_or_else(|_| self.float() as i64),
            Self::Time(_) | Self::Regex(_) => 0,
        }
    }

    /// As a number; text that is none counts as 0.
    pub(super) fn float(&self) -> f64 {
        match self {
            Self::Int(value) => *value as f64,
            Self::Float(value) => *value,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Text(text) => text.trim().parse().unwrap_or(0.0),
            Self::Time(_) | Self::Regex(_) => 0.0,
        }
    }
}
