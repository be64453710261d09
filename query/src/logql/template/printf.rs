//! Go's `printf`, for the verbs that log lines need: `%s %v %d %f %g %e %q %x %t %%` with flags,
//! width and precision.

use super::super::print::quote;
use super::value::Value;

/// Widest field.
const WIDTH_MAX: usize = 4096;

pub(super) fn printf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let flags_end =
            rest.find(|c| !matches!(c, '-' | '+' | '0' | ' ' | '#')).unwrap_or(rest.len());
        let (flags, after) = rest.split_at(flags_end);
        let (width, after) = digits(after)?;
        let (precision, after) = match after.strip_prefix('.') {
            Some(after) => {
                let (precision, after) = digits(after)?;
                (Some(precision.unwrap_or(0)), after)
            }
            None => (None, after),
        };
        let verb = after.chars().next().ok_or("printf: a format ends with %")?;
        rest = &after[verb.len_utf8()..];
        let value = values.next().ok_or_else(|| format!("printf: no value for %{verb}"))?;
        let mut text = one(verb, precision, value)?;
        if flags.contains('+') && matches!(verb, 'd' | 'f' | 'g' | 'e') && !text.starts_with('-') {
            text.insert(0, '+');
        }
        pad(&mut out, &text, width.unwrap_or(0), flags);
    }
    out.push_str(rest);
    Ok(out)
}

fn digits(text: &str) -> Result<(Option<usize>, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Ok((None, text));
    }
    let number = text[..end].parse().ok().filter(|number| *number <= WIDTH_MAX);
    number
        .map(|n| (Some(n), &text[end..]))
        .ok_or_else(|| format!("printf: a width above {WIDTH_MAX}"))
}

fn one(verb: char, precision: Option<usize>, value: &Value) -> Result<String, String> {
    Ok(match verb {
        's' | 'v' => {
            let text = value.text();
            match precision {
                Some(most) => text.chars().take(most).collect(),
                None => text,
            }
        }
        'd' => value.int().to_string(),
        'f' => format!("{:.*}", precision.unwrap_or(6), value.float()),
        'e' => format!("{:.*e}", precision.unwrap_or(6), value.float()),
        'g' => value.float().to_string(),
        'x' => match value {
            Value::Int(number) => format!("{number:x}"),
            other => other.text().bytes().map(|byte| format!("{byte:02x}")).collect(),
        },
        'q' => {
            let mut text = String::new();
            quote(&mut text, &value.text());
            text
        }
        't' => value.is_true().to_string(),
        other => return Err(format!("printf: %{other} is not supported")),
    })
}

fn pad(out: &mut String, text: &str, width: usize, flags: &str) {
    let missing = width.saturating_sub(text.chars().count());
    if flags.contains('-') {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if flags.contains('0') {
        let sign = text.starts_with(['-', '+']);
        let (sign, digits) = text.split_at(usize::from(sign));
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(digits);
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(text);
    }
}
