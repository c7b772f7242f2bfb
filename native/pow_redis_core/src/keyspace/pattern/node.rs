//! The nodes of a compiled pattern.

use crate::error::{Error, ErrorKind};
use crate::etf::{self, Cursor, Element, Elements, Head, skip};

/// A term of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Matches any term.
    Any,
    /// Matches any term, but the same term each time.
    Variable(String),
    /// Matches this term in canonical form.
    Literal(Vec<u8>),
    /// Elements and a tail.
    List(Vec<Self>, Box<Self>),
    Tuple(Vec<Self>),
    /// Pairs, sorted by their keys, which are in canonical form.
    Map(Vec<(Vec<u8>, Self)>),
}

/// The terms that variables have matched so far.
pub(super) type Bindings = Vec<(String, Vec<u8>)>;

impl Node {
    /// Compiles the remaining elements of a list, and its tail.
    pub(super) fn compile_list(mut elements: Elements<'_>) -> Result<(Vec<Self>, Self), Error> {
        let mut nodes = Vec::new();
        while let Some(element) = elements.next_element().map_err(ErrorKind::Pattern)? {
            nodes.push(match element {
                Element::Byte(_) => Self::Literal(element.to_term()),
                Element::Term(bytes) => Self::compile(&mut Cursor::new(bytes))?,
            });
        }
        let tail = elements.rest().map_err(ErrorKind::Pattern)?;
        Ok((nodes, Self::compile(&mut Cursor::new(&tail))?))
    }

    /// Compiles a term in canonical form.
    fn compile(cursor: &mut Cursor<'_>) -> Result<Self, Error> {
        let start = *cursor;
        let fail = |error: etf::Error| Error::from(ErrorKind::Pattern(error));
        let node = match Head::read(cursor).map_err(fail)? {
            Head::Atom(atom) if atom.text() == "_" => Self::Any,
            Head::Atom(atom) if is_variable(&atom.text()) => {
                Self::Variable(atom.text().into_owned())
            }
            Head::List(_) => {
                *cursor = start;
                skip(cursor).map_err(fail)?;
                match Elements::read(&mut Cursor::new(start.until(cursor))).map_err(fail)? {
                    Some(elements) => {
                        let (nodes, tail) = Self::compile_list(elements)?;
                        Self::List(nodes, Box::new(tail))
                    }
                    None => Self::Literal(start.until(cursor).to_vec()),
                }
            }
            Head::Tuple(elements) => Self::Tuple(
                (0..elements)
                    .map(|_| Self::compile(cursor))
                    .collect::<Result<_, _>>()?,
            ),
            // Never a literal, since it matches maps with more pairs.
            Head::Map(pairs) => {
                return (0..pairs)
                    .map(|_| Self::compile_pair(cursor))
                    .collect::<Result<_, _>>()
                    .map(Self::Map);
            }
            _ => Self::Literal(start.until(cursor).to_vec()),
        };
        let is_literal = match &node {
            Self::List(nodes, tail) => nodes.iter().all(Self::is_literal) && tail.is_literal(),
            Self::Tuple(nodes) => nodes.iter().all(Self::is_literal),
            _ => false,
        };
        Ok(if is_literal {
            Self::Literal(start.until(cursor).to_vec())
        } else {
            node
        })
    }

    fn compile_pair(cursor: &mut Cursor<'_>) -> Result<(Vec<u8>, Self), Error> {
        let start = *cursor;
        if matches!(Self::compile(cursor)?, Self::Any | Self::Variable(_)) {
            return Err(ErrorKind::PatternMapKey.into());
        }
        Ok((start.until(cursor).to_vec(), Self::compile(cursor)?))
    }

    const fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

/// Whether an atom is a variable: `$0`, `$1`, …, without leading zeros.
fn is_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|digits| {
        !digits.is_empty()
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_variables() {
        for variable in ["$0", "$1", "$10", "$99999999999999999999"] {
            assert!(is_variable(variable), "{variable}");
        }
        for literal in ["$", "$01", "$$", "$_", "_", "$1a", "1"] {
            assert!(!is_variable(literal), "{literal}");
        }
    }
}
