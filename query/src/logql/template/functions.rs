//! The functions that templates may call, with how many arguments each takes.
//!
//! Functions that work on text take it last, so that it can be piped; those with a capital letter
//! are Loki's older ones and take it first.

use std::cmp::Ordering;

use super::super::stage::line_regex;
use super::super::units;
use super::printf::printf;
use super::value::Value;
use super::{Operand, Scope, TEXT_BYTES_MAX};

type Body = fn(&Scope<'_>, &[Value]) -> Result<Value, String>;

/// One function.
pub(super) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    /// Calls it; the number of values was checked when the template was read.
    pub(super) fn call(&self, scope: &Scope<'_>, values: &[Value]) -> Result<Value, String> {
        (self.body)(scope, values).map_err(|why| format!("{}: {why}", self.name))
    }
}

const MANY: usize = usize::MAX;

const fn entry(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function { name, least, most, body }
}

/// Functions whose first argument is an expression, compiled with the template.
const WITH_REGEX: [&str; 3] = ["regexReplaceAll", "regexReplaceAllLiteral", "count"];

static FUNCTIONS: [Function; 74] = [
    entry("__line__", 0, 0, |scope, _| Ok(Value::Text(scope.line.to_owned()))),
    entry("__timestamp__", 0, 0, |scope, _| Ok(Value::Time(scope.ts))),
    // Text
    entry("lower", 1, 1, |_, v| text(v[0].text().to_lowercase())),
    entry("ToLower", 1, 1, |_, v| text(v[0].text().to_lowercase())),
    entry("upper", 1, 1, |_, v| text(v[0].text().to_uppercase())),
    entry("ToUpper", 1, 1, |_, v| text(v[0].text().to_uppercase())),
    entry("title", 1, 1, |_, v| text(title(&v[0].text()))),
    entry("trim", 1, 1, |_, v| text(v[0].text().trim().to_owned())),
    entry("TrimSpace", 1, 1, |_, v| text(v[0].text().trim().to_owned())),
    entry("trimAll", 2, 2, |_, v| text(trim(&v[1], &v[0], true, true))),
    entry("Trim", 2, 2, |_, v| text(trim(&v[0], &v[1], true, true))),
    entry("TrimLeft", 2, 2, |_, v| text(trim(&v[0], &v[1], true, false))),
    entry("TrimRight", 2, 2, |_, v| text(trim(&v[0], &v[1], false, true))),
    entry("trimPrefix", 2, 2, |_, v| text(without_prefix(&v[1], &v[0]))),
    entry("TrimPrefix", 2, 2, |_, v| text(without_prefix(&v[0], &v[1]))),
    entry("trimSuffix", 2, 2, |_, v| text(without_suffix(&v[1], &v[0]))),
    entry("TrimSuffix", 2, 2, |_, v| text(without_suffix(&v[0], &v[1]))),
    entry("replace", 3, 3, |_, v| text(v[2].text().replace(&v[0].text(), &v[1].text()))),
    entry("Replace", 4, 4, |_, v| {
        let (from, to) = (v[1].text(), v[2].text());
        // A negative count means all.
        let count = usize::try_from(v[3].int()).unwrap_or(usize::MAX);
        text(v[0].text().replacen(&from, &to, count))
    }),
    entry("substr", 3, 3, |_, v| text(substr(v[0].int(), v[1].int(), &v[2].text()))),
    entry("trunc", 2, 2, |_, v| text(trunc(v[0].int(), &v[1].text()))),
    entry("repeat", 2, 2, |_, v| repeat(v[0].int(), &v[1].text())),
    entry("indent", 2, 2, |_, v| indent(v[0].int(), &v[1].text(), "")),
    entry("nindent", 2, 2, |_, v| indent(v[0].int(), &v[1].text(), "\n")),
    entry("alignLeft", 2, 2, |_, v| align(v[0].int(), &v[1].text(), true)),
    entry("alignRight", 2, 2, |_, v| align(v[0].int(), &v[1].text(), false)),
    entry("contains", 2, 2, |_, v| Ok(Value::Bool(v[1].text().contains(&v[0].text())))),
    entry("hasPrefix", 2, 2, |_, v| Ok(Value::Bool(v[1].text().starts_with(&v[0].text())))),
    entry("hasSuffix", 2, 2, |_, v| Ok(Value::Bool(v[1].text().ends_with(&v[0].text())))),
    entry("len", 1, 1, |_, v| Ok(Value::Int(i64::try_from(v[0].text().len()).unwrap_or(i64::MAX)))),
    entry("default", 2, 2, |_, v| Ok(v[usize::from(v[1].is_true())].clone())),
    entry("quote", 1, 1, |_, v| printf("%q", v).map(Value::Text)),
    entry("regexReplaceAll", 3, 3, |_, v| replace_all(v, false)),
    entry("regexReplaceAllLiteral", 3, 3, |_, v| replace_all(v, true)),
    entry("count", 2, 2, |_, v| match &v[0] {
        Value::Regex(regex) => Ok(Value::Int(regex.find_iter(&v[1].text()).count() as i64)),
        other => Err(format!("{} is no expression", other.text())),
    }),
    entry("urlencode", 1, 1, |_, v| text(url_encode(&v[0].text()))),
    entry("urldecode", 1, 1, |_, v| url_decode(&v[0].text())),
    // Printing
    entry("print", 0, MANY, |_, v| text(v.iter().map(Value::text).collect())),
    entry("println", 0, MANY, |_, v| {
        text(v.iter().map(Value::text).collect::<Vec<_>>().join(" ") + "\n")
    }),
    entry("printf", 1, MANY, |_, v| printf(&v[0].text(), &v[1..]).map(Value::Text)),
    // Units and times
    entry("bytes", 1, 1, |_, v| units::bytes(&v[0].text()).map(|n| Value::Float(n as f64))),
    entry("duration", 1, 1, |_, v| seconds(&v[0])),
    entry("duration_seconds", 1, 1, |_, v| seconds(&v[0])),
    entry("unixEpoch", 1, 1, |_, v| epoch(&v[0], 1_000_000_000)),
    entry("unixEpochMillis", 1, 1, |_, v| epoch(&v[0], 1_000_000)),
    entry("unixEpochNanos", 1, 1, |_, v| epoch(&v[0], 1)),
    // Whole numbers
    entry("add", 1, MANY, |_, v| ints(v, i64::checked_add)),
    entry("sub", 2, 2, |_, v| ints(v, i64::checked_sub)),
    entry("mul", 1, MANY, |_, v| ints(v, i64::checked_mul)),
    entry("div", 2, 2, |_, v| ints(v, i64::checked_div)),
    entry("mod", 2, 2, |_, v| ints(v, i64::checked_rem)),
    entry("max", 1, MANY, |_, v| ints(v, |a, b| Some(a.max(b)))),
    entry("min", 1, MANY, |_, v| ints(v, |a, b| Some(a.min(b)))),
    entry("int", 1, 1, |_, v| Ok(Value::Int(v[0].int()))),
    // Numbers
    entry("addf", 1, MANY, |_, v| floats(v, |a, b| a + b)),
    entry("subf", 1, MANY, |_, v| floats(v, |a, b| a - b)),
    entry("mulf", 1, MANY, |_, v| floats(v, |a, b| a * b)),
    entry("divf", 1, MANY, |_, v| floats(v, |a, b| a / b)),
    entry("maxf", 1, MANY, |_, v| floats(v, f64::max)),
    entry("minf", 1, MANY, |_, v| floats(v, f64::min)),
    entry("float64", 1, 1, |_, v| Ok(Value::Float(v[0].float()))),
    entry("ceil", 1, 1, |_, v| Ok(Value::Float(v[0].float().ceil()))),
    entry("floor", 1, 1, |_, v| Ok(Value::Float(v[0].float().floor()))),
    entry("round", 2, 2, |_, v| {
        // More digits than a double has round nothing.
        let scale = 10_f64.powi(i32::try_from(v[1].int().clamp(0, 17)).unwrap_or(0));
        Ok(Value::Float((v[0].float() * scale).round() / scale))
    }),
    // Logic
    entry("and", 1, MANY, |_, v| decided(v, false)),
    entry("or", 1, MANY, |_, v| decided(v, true)),
    entry("not", 1, 1, |_, v| Ok(Value::Bool(!v[0].is_true()))),
    entry("eq", 2, MANY, |_, v| {
        for other in &v[1..] {
            if compare(&v[0], other)? == Some(Ordering::Equal) {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    entry("ne", 2, 2, |_, v| Ok(Value::Bool(compare(&v[0], &v[1])? != Some(Ordering::Equal)))),
    entry("lt", 2, 2, |_, v| ordered(v, &[Ordering::Less])),
    entry("le", 2, 2, |_, v| ordered(v, &[Ordering::Less, Ordering::Equal])),
    entry("gt", 2, 2, |_, v| ordered(v, &[Ordering::Greater])),
    entry("ge", 2, 2, |_, v| ordered(v, &[Ordering::Greater, Ordering::Equal])),
    entry("toString", 1, 1, |_, v| text(v[0].text())),
];

/// The function of a name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Checks a call when the template is read: the number of arguments, and constant expressions,
/// which are compiled.
pub(super) fn check(
    function: &Function,
    operands: &mut [Operand],
    piped: bool,
) -> Result<(), String> {
    let count = operands.len() + usize::from(piped);
    if count < function.least || count > function.most {
        let Function { name, least, .. } = function;
        return Err(format!("wrong number of arguments for {name}: want {least}, got {count}"));
    }
    if WITH_REGEX.contains(&function.name) {
        let Some(Operand::Constant(constant)) = operands.first_mut() else {
            return Err(format!("the expression of {} must be a constant", function.name));
        };
        *constant = Value::Regex(line_regex(&constant.text())?);
    }
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "every function of the table returns a result")]
fn text(text: String) -> Result<Value, String> {
    Ok(Value::Text(text))
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = c.is_whitespace();
    }
    out
}

fn trim(value: &Value, set: &Value, left: bool, right: bool) -> String {
    let (value, set) = (value.text(), set.text());
    let mut out = value.as_str();
    if left {
        out = out.trim_start_matches(|c| set.contains(c));
    }
    if right {
        out = out.trim_end_matches(|c| set.contains(c));
    }
    out.to_owned()
}

fn without_prefix(value: &Value, prefix: &Value) -> String {
    let value = value.text();
    value.strip_prefix(prefix.text().as_str()).unwrap_or(&value).to_owned()
}

fn without_suffix(value: &Value, suffix: &Value) -> String {
    let value = value.text();
    value.strip_suffix(suffix.text().as_str()).unwrap_or(&value).to_owned()
}

/// Characters from `start` up to `end`; a negative end means up to the last.
fn substr(start: i64, end: i64, text: &str) -> String {
    let start = usize::try_from(start).unwrap_or(0);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    text.chars().skip(start).take(end.saturating_sub(start)).collect()
}

/// The first characters, or, for a negative count, the last.
fn trunc(count: i64, text: &str) -> String {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count >= 0 {
        return text.chars().take(wanted).collect();
    }
    let all = text.chars().count();
    text.chars().skip(all.saturating_sub(wanted)).collect()
}

fn repeat(count: i64, text: &str) -> Result<Value, String> {
    let count = usize::try_from(count).map_err(|_| "a negative count")?;
    if count.saturating_mul(text.len()) > TEXT_BYTES_MAX {
        return Err("the text gets too long".into());
    }
    Ok(Value::Text(text.repeat(count)))
}

fn indent(count: i64, text: &str, before: &str) -> Result<Value, String> {
    let pad = " ".repeat(usize::try_from(count.clamp(0, 256)).unwrap_or(0));
    if (text.matches('\n').count() + 1).saturating_mul(pad.len()) > TEXT_BYTES_MAX {
        return Err("the text gets too long".into());
    }
    Ok(Value::Text(format!("{before}{pad}{}", text.replace('\n', &format!("\n{pad}")))))
}

/// Exactly `count` characters: cut, or filled up with blanks.
fn align(count: i64, text: &str, left: bool) -> Result<Value, String> {
    let count = usize::try_from(count).map_err(|_| "a negative width")?;
    if count > TEXT_BYTES_MAX {
        return Err("the text gets too long".into());
    }
    let length = text.chars().count();
    let blanks = " ".repeat(count.saturating_sub(length));
    Ok(Value::Text(if left {
        text.chars().take(count).collect::<String>() + &blanks
    } else {
        blanks + &text.chars().skip(length.saturating_sub(count)).collect::<String>()
    }))
}

fn replace_all(values: &[Value], literal: bool) -> Result<Value, String> {
    let Value::Regex(regex) = &values[0] else {
        return Err(format!("{} is no expression", values[0].text()));
    };
    let (subject, by) = (values[1].text(), values[2].text());
    let replaced = if literal {
        regex.replace_all(&subject, regex::NoExpand(&by))
    } else {
        regex.replace_all(&subject, by.as_str())
    };
    Ok(Value::Text(replaced.into_owned()))
}

fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn url_decode(text: &str) -> Result<Value, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = digit().zip(digit()).ok_or("invalid URL escape")?;
                // Two digits of base 16 are a byte.
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(out).map(Value::Text).map_err(|_| "not UTF-8".into())
}

fn seconds(value: &Value) -> Result<Value, String> {
    units::go_duration(&value.text()).map(|nanos| Value::Float(nanos as f64 / 1e9))
}

fn epoch(value: &Value, unit: i64) -> Result<Value, String> {
    match value {
        Value::Time(ts) => Ok(Value::Text((ts / unit).to_string())),
        other => Err(format!("{} is no time", other.text())),
    }
}

fn ints(values: &[Value], op: impl Fn(i64, i64) -> Option<i64>) -> Result<Value, String> {
    let mut result = values[0].int();
    for value in &values[1..] {
        result = op(result, value.int()).ok_or("overflow, or division by zero")?;
    }
    Ok(Value::Int(result))
}

#[expect(clippy::unnecessary_wraps, reason = "every function of the table returns a result")]
fn floats(values: &[Value], op: impl Fn(f64, f64) -> f64) -> Result<Value, String> {
    let rest = values[1..].iter().map(Value::float);
    Ok(Value::Float(rest.fold(values[0].float(), op)))
}

/// The first value whose truth is `wanted`, or the last.
fn decided(values: &[Value], wanted: bool) -> Result<Value, String> {
    let found = values.iter().find(|value| value.is_true() == wanted).or_else(|| values.last());
    found.cloned().ok_or_else(|| "no values".into())
}

fn ordered(values: &[Value], wanted: &[Ordering]) -> Result<Value, String> {
    let order = compare(&values[0], &values[1])?;
    Ok(Value::Bool(order.is_some_and(|order| wanted.contains(&order))))
}

/// Text with text, numbers with numbers.
fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(a.float().partial_cmp(&b.float()))
        }
        _ => Err("incompatible types for comparison".into()),
    }
}
