//! Templates of `line_format` and `label_format`: the part of Go's text/template that log queries
//! use. Labels (`{{.level}}`), pipelines (`{{.level | upper}}`), `if`/`else if`/`else`/`end`,
//! parentheses, and the functions of `functions.rs`.
//!
//! What Go has beyond that (`range`, `with`, variables, other functions) is refused when the query
//! is read. A label that is not there is empty text.

mod functions;
mod parse;
mod printf;
mod value;

use taffrail_model::Nanos;
use taffrail_model::limits::LINE_BYTES_MAX;

use super::labels::LineLabels;
use functions::Function;
use value::Value;

/// Longest text that a template may make of one line.
const TEXT_BYTES_MAX: usize = LINE_BYTES_MAX;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Pipe),
    If { branches: Vec<(Pipe, Vec<Node>)>, otherwise: Vec<Node> },
}

/// `a | b x | c`: the value of each part is the last argument of the next.
#[derive(Debug)]
struct Pipe(Vec<Command>);

#[derive(Debug)]
enum Command {
    Value(Operand),
    Call(&'static Function, Vec<Operand>),
}

#[derive(Debug)]
enum Operand {
    Constant(Value),
    Label(String),
    Pipe(Pipe),
}

/// What a template looks at.
struct Scope<'a> {
    ts: Nanos,
    line: &'a str,
    labels: &'a LineLabels,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong or not supported.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self).map_err(|why| format!("invalid template: {why}: {text:?}"))
    }

    /// Fills the template for one line.
    ///
    /// # Errors
    /// When a function cannot work with its arguments, or the text gets too long.
    pub(super) fn render(
        &self,
        ts: Nanos,
        line: &str,
        labels: &LineLabels,
    ) -> Result<String, String> {
        let mut out = String::new();
        render(&self.0, &Scope { ts, line, labels }, &mut out)?;
        Ok(out)
    }
}

fn render(nodes: &[Node], scope: &Scope<'_>, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipe) => match (&pipe.0[..], out.len()) {
                // The most common form needs no value of its own.
                ([Command::Value(Operand::Label(name))], _) => {
                    out.push_str(scope.labels.get(name).unwrap_or(""));
                }
                _ => pipe.eval(scope)?.print(out),
            },
            Node::If { branches, otherwise } => {
                let mut chosen = otherwise;
                for (condition, nodes) in branches {
                    if condition.eval(scope)?.is_true() {
                        chosen = nodes;
                        break;
                    }
                }
                render(chosen, scope, out)?;
            }
        }
        if out.len() > TEXT_BYTES_MAX {
            return Err(format!("the template makes more than {TEXT_BYTES_MAX} bytes of a line"));
        }
    }
    Ok(())
}

impl Pipe {
    fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in &self.0 {
            last = Some(match command {
                Command::Value(operand) => operand.eval(scope)?,
                Command::Call(function, operands) => {
                    let mut values = Vec::with_capacity(operands.len() + 1);
                    for operand in operands {
                        values.push(operand.eval(scope)?);
                    }
                    values.extend(last);
                    function.call(scope, &values)?
                }
            });
        }
        Ok(last.unwrap_or(Value::Text(String::new())))
    }
}

impl Operand {
    fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Label(name) => Ok(Value::Text(scope.labels.get(name).unwrap_or("").to_owned())),
            Self::Pipe(pipe) => pipe.eval(scope),
        }
    }
}

#[cfg(test)]
mod tests;
