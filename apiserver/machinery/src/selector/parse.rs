//! The grammar of the `labelSelector` parameter.

use super::{Operator, Requirement};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `in` and `notin` too: they are words unless they stand where an operator may.
    Word(String),
    /// `=`, `==`, `!=`, `!`, `,`, `(`, `)`, `<`, `>`.
    Sign(&'static str),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let sign = ["==", "!=", "=", "!", ",", "(", ")", "<", ">"].into_iter().find(|s| rest.starts_with(s));
        let length = if let Some(sign) = sign {
            out.push(Token::Sign(sign));
            sign.len()
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(rest.len());
            let end = end.max(first.len_utf8());
            out.push(Token::Word(rest[..end].to_owned()));
            end
        };
        rest = rest[length..].trim_start();
    }
    out
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut out = Vec::new();
    if parser.tokens.is_empty() {
        return Ok(out);
    }
    loop {
        out.push(parser.requirement()?);
        match parser.next() {
            None => break,
            Some(Token::Sign(",")) if parser.peek().is_some() => {}
            Some(Token::Sign(",")) => return Err("found '', expected: identifier after ','".to_owned()),
            Some(other) => return Err(format!("found '{}', expected: ',' or 'end of string'", shown(&other))),
        }
    }
    out.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(out)
}

fn shown(token: &Token) -> &str {
    match token {
        Token::Word(word) => word,
        Token::Sign(sign) => sign,
    }
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Some(&Token::Sign("!"));
        if absent {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(word)) => word,
            other => return Err(format!("found '{}', expected: identifier", other.as_ref().map_or("", shown))),
        };
        if absent {
            return Requirement::checked(&key, Operator::DoesNotExist, Vec::new());
        }
        match self.peek() {
            None | Some(Token::Sign(",")) => Requirement::checked(&key, Operator::Exists, Vec::new()),
            Some(_) => self.comparison(&key),
        }
    }

    fn comparison(&mut self, key: &str) -> Result<Requirement, String> {
        let token = self.next();
        let operator = match token.as_ref().map_or("", shown) {
            "in" => return Requirement::checked(key, Operator::In, self.set()?),
            "notin" => return Requirement::checked(key, Operator::NotIn, self.set()?),
            "=" | "==" => Operator::In,
            "!=" => Operator::NotIn,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Requirement::checked(key, operator, vec![self.value()])
    }

    /// A value; nothing where one should stand is the empty value.
    fn value(&mut self) -> String {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                word
            }
            _ => String::new(),
        }
    }

    fn set(&mut self) -> Result<Vec<String>, String> {
        if self.next() != Some(Token::Sign("(")) {
            return Err(format!("found '{}', expected: '('", self.shown_last()));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value());
            match self.next() {
                Some(Token::Sign(",")) => {}
                Some(Token::Sign(")")) => break,
                other => return Err(format!("found '{}', expected: ',' or ')'", other.as_ref().map_or("", shown))),
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn shown_last(&self) -> &str {
        self.tokens.get(self.at - 1).map_or("", shown)
    }
}
