//! Template text to nodes.

use super::super::lexer::unescape;
use super::functions::{self, Function};
use super::value::Value;
use super::{Command, Node, Operand, Pipe};

/// How deep `if` and parentheses may be nested.
const DEPTH_MAX: usize = 32;

/// A piece of a template: text, or what stands between braces.
enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Label(String),
    Word(String),
    Text(String),
    Int(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let pieces = pieces(text)?;
    let mut reader = Reader { pieces: pieces.into_iter(), depth: 0 };
    match reader.nodes()? {
        (nodes, None) => Ok(nodes),
        (_, Some(word)) => Err(format!("unexpected {{{{{}}}}}", word.join(" "))),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let open = rest.find("{{");
        let mut before = &rest[..open.unwrap_or(rest.len())];
        if trim {
            before = before.trim_start();
        }
        let Some(open) = open else {
            pieces.push(Piece::Text(before));
            return Ok(pieces);
        };
        let mut inner = &rest[open + 2..];
        if inner.starts_with("- ") {
            before = before.trim_end();
            inner = &inner[2..];
        }
        pieces.push(Piece::Text(before));
        let end = action_end(inner).ok_or("unclosed action")?;
        let mut action = &inner[..end];
        rest = &inner[end + 2..];
        trim = action.ends_with(" -");
        if trim {
            action = &action[..action.len() - 2];
        }
        if !action.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(action));
        }
    }
}

/// Where the braces close, strings aside.
fn action_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
        let (token, len) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' => {
                let end = closing_quote(&rest[1..]).ok_or("unterminated string")?;
                let text = unescape(&rest[1..=end]).ok_or("invalid escape in a string")?;
                (Token::Text(text), end + 2)
            }
            '`' => {
                let end = rest[1..].find('`').ok_or("unterminated string")?;
                (Token::Text(rest[1..=end].to_owned()), end + 2)
            }
            '.' => {
                let len = 1 + rest[1..].find(|c| !is_part(c)).unwrap_or(rest.len() - 1);
                let name = &rest[1..len];
                if name.is_empty() || name.contains('.') {
                    return Err(format!("{} is not a label", &rest[..len]));
                }
                (Token::Label(name.to_owned()), len)
            }
            c if c.is_alphabetic() || c == '_' => {
                let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                (Token::Word(rest[..len].to_owned()), len)
            }
            c if c.is_ascii_digit() || c == '-' || c == '+' => {
                let len = 1 + rest[1..].find(|c| !is_part(c)).unwrap_or(rest.len() - 1);
                (number(&rest[..len])?, len)
            }
            c => return Err(format!("unexpected {c:?} in an action")),
        };
        tokens.push(token);
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.find(|c: char| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })
}

fn number(text: &str) -> Result<Token, String> {
    if let Ok(value) = text.parse() {
        return Ok(Token::Int(value));
    }
    text.parse().map(Token::Float).map_err(|_| format!("bad number {text}"))
}

struct Reader<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    depth: usize,
}

/// The words of an action that ends a list of nodes: `else`, `else if …`, `end`.
type Ending = Vec<String>;

impl Reader<'_> {
    /// Nodes up to the end of the text, or to an action that ends them.
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<Ending>), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text("") => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let word = action.split_whitespace().next().unwrap_or_default();
            match word {
                "end" | "else" => {
                    let rest = action.trim().trim_start_matches(word).trim().to_owned();
                    return Ok((nodes, Some(vec![word.to_owned(), rest])));
                }
                "if" => {
                    let condition = pipe(action.trim().trim_start_matches("if"))?;
                    nodes.push(self.branches(condition)?);
                }
                "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("{{{{{word}}}}} is not supported"));
                }
                _ => nodes.push(Node::Print(pipe(action)?)),
            }
        }
        Ok((nodes, None))
    }

    fn branches(&mut self, condition: Pipe) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        let mut branches = Vec::new();
        let mut condition = Some(condition);
        let mut otherwise = Vec::new();
        loop {
            let (nodes, ending) = self.nodes()?;
            let ending = ending.ok_or("{{if}} without {{end}}")?;
            match condition.take() {
                Some(condition) => branches.push((condition, nodes)),
                None => otherwise = nodes,
            }
            let (word, rest) = (ending[0].as_str(), ending[1].as_str());
            if word == "end" {
                self.depth -= 1;
                return Ok(Node::If { branches, otherwise });
            }
            if let Some(next) = rest.strip_prefix("if ") {
                condition = Some(pipe(next)?);
            } else if !rest.is_empty() {
                return Err(format!("unexpected {rest:?} after else"));
            }
        }
    }
}

fn pipe(action: &str) -> Result<Pipe, String> {
    let tokens = tokens(action)?;
    let mut at = 0;
    let pipe = pipeline(&tokens, &mut at, 0)?;
    if at == tokens.len() { Ok(pipe) } else { Err("unexpected )".into()) }
}

fn pipeline(tokens: &[Token], at: &mut usize, depth: usize) -> Result<Pipe, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested more than {DEPTH_MAX} deep"));
    }
    let mut commands = Vec::new();
    loop {
        let piped = !commands.is_empty();
        commands.push(command(tokens, at, depth, piped)?);
        if tokens.get(*at) != Some(&Token::Pipe) {
            return Ok(Pipe(commands));
        }
        *at += 1;
    }
}

fn command(tokens: &[Token], at: &mut usize, depth: usize, piped: bool) -> Result<Command, String> {
    let function = match tokens.get(*at) {
        Some(Token::Word(word)) if word != "true" && word != "false" => {
            *at += 1;
            Some(find(word)?)
        }
        None => return Err("missing value for command".into()),
        _ => None,
    };
    let mut operands = Vec::new();
    while let Some(operand) = operand(tokens, at, depth)? {
        operands.push(operand);
    }
    match function {
        Some(function) => {
            functions::check(function, &mut operands, piped)?;
            Ok(Command::Call(function, operands))
        }
        None if operands.len() == 1 && !piped => Ok(Command::Value(operands.remove(0))),
        None => Err("only a function takes arguments".into()),
    }
}

fn operand(tokens: &[Token], at: &mut usize, depth: usize) -> Result<Option<Operand>, String> {
    let operand = match tokens.get(*at) {
        None | Some(Token::Pipe | Token::Close) => return Ok(None),
        Some(Token::Label(name)) => Operand::Label(name.clone()),
        Some(Token::Text(text)) => Operand::Constant(Value::Text(text.clone())),
        Some(Token::Int(value)) => Operand::Constant(Value::Int(*value)),
        Some(Token::Float(value)) => Operand::Constant(Value::Float(*value)),
        Some(Token::Word(word)) if word == "true" || word == "false" => {
            Operand::Constant(Value::Bool(word == "true"))
        }
        Some(Token::Word(word)) => {
            let function = find(word)?;
            functions::check(function, &mut Vec::new(), false)?;
            Operand::Pipe(Pipe(vec![Command::Call(function, Vec::new())]))
        }
        Some(Token::Open) => {
            *at += 1;
            let inner = pipeline(tokens, at, depth + 1)?;
            if tokens.get(*at) != Some(&Token::Close) {
                return Err("unclosed (".into());
            }
            Operand::Pipe(inner)
        }
    };
    *at += 1;
    Ok(Some(operand))
}

fn find(name: &str) -> Result<&'static Function, String> {
    functions::find(name).ok_or_else(|| format!("function {name:?} is not supported"))
}
