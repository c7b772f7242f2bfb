//! Matching terms in canonical form against a compiled pattern.

use super::node::{Bindings, Node};
use crate::etf::{self, Cursor, Element, Elements, Head, skip};

/// Whether the next term matches. If so, advances the cursor past it.
fn term_matches(
    node: &Node,
    cursor: &mut Cursor<'_>,
    bindings: &mut Bindings,
) -> Result<bool, etf::Error> {
    let start = *cursor;
    if let Node::Tuple(nodes) = node {
        let Head::Tuple(elements) = Head::read(cursor)? else {
            return Ok(false);
        };
        if usize::try_from(elements) != Ok(nodes.len()) {
            return Ok(false);
        }
        for node in nodes {
            if !term_matches(node, cursor, bindings)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    skip(cursor)?;
    let term = start.until(cursor);
    match node {
        Node::Any => Ok(true),
        Node::Literal(literal) => Ok(term == literal),
        Node::Variable(name) => Ok(bind(name, term, bindings)),
        Node::List(nodes, tail) => list_matches(nodes, tail, term, bindings),
        Node::Map(pairs) => map_matches(pairs, term, bindings),
        Node::Tuple(_) => Ok(false),
    }
}

/// Whether the variable is unbound or bound to an equal term.
fn bind(name: &str, term: &[u8], bindings: &mut Bindings) -> bool {
    match bindings.iter().find(|(bound, _)| bound == name) {
        Some((_, bound)) => bound == term,
        None => {
            bindings.push((name.to_owned(), term.to_vec()));
            true
        }
    }
}

/// Whether a list matches.
pub(super) fn list_matches(
    nodes: &[Node],
    tail: &Node,
    term: &[u8],
    bindings: &mut Bindings,
) -> Result<bool, etf::Error> {
    let Some(mut elements) = Elements::read(&mut Cursor::new(term))? else {
        return Ok(false);
    };
    for node in nodes {
        let matched = match elements.next_element()? {
            None => false,
            Some(Element::Term(bytes)) => term_matches(node, &mut Cursor::new(bytes), bindings)?,
            Some(byte) => term_matches(node, &mut Cursor::new(&byte.to_term()), bindings)?,
        };
        if !matched {
            return Ok(false);
        }
    }
    term_matches(tail, &mut Cursor::new(&elements.rest()?), bindings)
}

fn map_matches(
    pairs: &[(Vec<u8>, Node)],
    term: &[u8],
    bindings: &mut Bindings,
) -> Result<bool, etf::Error> {
    let mut cursor = Cursor::new(term);
    let Head::Map(size) = Head::read(&mut cursor)? else {
        return Ok(false);
    };
    // The pairs of both are sorted by the bytes of their keys.
    let mut unmatched = pairs.iter().peekable();
    for _ in 0..size {
        let Some((key, node)) = unmatched.peek() else {
            break;
        };
        let start = cursor;
        skip(&mut cursor)?;
        if start.until(&cursor) == key {
            if !term_matches(node, &mut cursor, bindings)? {
                return Ok(false);
            }
            unmatched.next();
        } else {
            skip(&mut cursor)?;
        }
    }
    Ok(unmatched.peek().is_none())
}
