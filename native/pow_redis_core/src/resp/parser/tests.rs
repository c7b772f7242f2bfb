use super::*;

/// Parses bytes in portions. Returns the reply, with which they end, or the error.
fn parse_as(
    protocol: Protocol,
    bytes: &[u8],
    portion: usize,
) -> (ReplyParser, Result<Option<Value>, Error>) {
    let mut parser = ReplyParser::default();
    parser.set_protocol(protocol);
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + portion);
        match parser.parse(&bytes[start..end]) {
            Ok((parsed, None)) => start += parsed,
            Ok((parsed, Some(reply))) => {
                assert_eq!(start + parsed, bytes.len());
                return (parser, Ok(Some(reply)));
            }
            Err(error) => return (parser, Err(error)),
        }
    }
    (parser, Ok(None))
}

fn parse(bytes: &[u8], portion: usize) -> (ReplyParser, Result<Option<Value>, Error>) {
    parse_as(Protocol::Resp2, bytes, portion)
}

fn parse_resp3(bytes: &[u8], portion: usize) -> Result<Option<Value>, Error> {
    parse_as(Protocol::Resp3, bytes, portion).1
}

fn string(length: usize) -> Vec<u8> {
    let mut bytes = format!("${length}\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes.extend(CRLF);
    bytes
}

fn length_of(reply: &Value) -> usize {
    match reply {
        Value::BulkString(bytes) => bytes.len(),
        _ => panic!("{reply:?}"),
    }
}

#[test]
fn cuts_a_string_that_is_longer_than_a_value() {
    for (length, kept) in [
        (MAX_TOP_LEVEL_LEN, MAX_TOP_LEVEL_LEN),
        (MAX_TOP_LEVEL_LEN + 1, MAX_TOP_LEVEL_LEN + 1),
        (MAX_TOP_LEVEL_LEN + 100, MAX_TOP_LEVEL_LEN + 1),
    ] {
        let (_, reply) = parse(&string(length), 1 << 20);
        assert_eq!(length_of(&reply.unwrap().unwrap()), kept);
    }
}

#[test]
fn cuts_a_string_in_an_array_that_is_longer_than_a_key() {
    for (length, kept) in [
        (MAX_ITEM_LEN, MAX_ITEM_LEN),
        (MAX_ITEM_LEN + 1, MAX_ITEM_LEN + 1),
        (MAX_ITEM_LEN + 100, MAX_ITEM_LEN + 1),
    ] {
        let array = [b"*2\r\n", &string(length)[..], b":7\r\n"].concat();
        for portion in [1, 1_000, array.len()] {
            let (_, reply) = parse(&array, portion);
            let Ok(Some(Value::Array(elements))) = reply else {
                panic!("{length}");
            };
            assert_eq!(length_of(&elements[0]), kept);
            assert_eq!(elements[1], Value::Int(7));
        }
    }
}

#[test]
fn notices_the_depth_before_the_end() {
    let nested = |depth: usize| b"*1\r\n".repeat(depth);
    assert!(matches!(parse(&nested(MAX_DEPTH), 3), (_, Ok(None))));
    let (_, outcome) = parse(&nested(MAX_DEPTH + 1), 3);
    assert_eq!(outcome, Err(protocol()));
    let whole = [nested(MAX_DEPTH), b":1\r\n".to_vec()].concat();
    assert!(matches!(parse(&whole, 3), (_, Ok(Some(_)))));
}

#[test]
fn limits_the_memory_of_a_reply() {
    let most = MAX_REPLY_MEMORY / (size_of::<Value>() + 2) - 1;
    let numbers = |number: usize| {
        let header = format!("*{number}\r\n").into_bytes();
        [header, b":1\r\n".repeat(number)].concat()
    };
    assert!(matches!(parse(&numbers(most), 1 << 20), (_, Ok(Some(_)))));
    let (_, outcome) = parse(&numbers(most + 1), 1 << 20);
    assert_eq!(outcome, Err(protocol()));

    // It is known from the announcement, also in an array.
    let announced = |number: usize| format!("*2\r\n:1\r\n*{number}\r\n").into_bytes();
    let most = MAX_REPLY_MEMORY / size_of::<Value>();
    assert_eq!(parse(&announced(most - 3), 5).1, Ok(None));
    assert_eq!(parse(&announced(most), 5).1, Err(protocol()));
    let strings = [b"*100000\r\n".to_vec(), string(MAX_ITEM_LEN).repeat(2_048)].concat();
    let (_, outcome) = parse(&strings, 1 << 20);
    assert_eq!(outcome, Err(protocol()));
}

#[test]
fn counts_memory_up_to_the_limit() {
    let mut parser = ReplyParser::default();
    let rest = MAX_REPLY_MEMORY - size_of::<Value>();
    assert_eq!(parser.take_memory(rest), Ok(()));
    assert_eq!(parser.memory, MAX_REPLY_MEMORY);
    let mut parser = ReplyParser::default();
    assert_eq!(parser.take_memory(rest + 1), Err(protocol()));
}

#[test]
fn knows_how_many_bytes_a_string_lacks() {
    let missing = |bytes: &[u8]| parse(bytes, bytes.len()).0.missing();
    assert_eq!(missing(b"$10"), 0);
    assert_eq!(missing(b"$10\r\nabc"), 7 + 2);
    assert_eq!(missing(b"$3\r\nabc"), 2);
    let long = format!("*1\r\n${}\r\nabc", MAX_ITEM_LEN + 100);
    assert_eq!(missing(long.as_bytes()), MAX_ITEM_LEN + 97 + 2);
}

#[test]
fn allocates_nothing_for_announced_elements() {
    for bytes in [&b"*1000000\r\n"[..], b"$500000000\r\nabc"] {
        let (parser, outcome) = parse(bytes, 100);
        assert_eq!(outcome, Ok(None));
        let arrays: usize = parser
            .arrays
            .iter()
            .map(|array| array.elements.capacity())
            .sum();
        assert_eq!(arrays, 0);
        assert!(parser.has_begun());
    }
}

/// Bytes are not searched again when more arrive.
#[test]
fn searches_a_long_line_once() {
    let mut line = vec![b'+'; MAX_LINE_LEN];
    let mut parser = ReplyParser::default();
    for end in 1..=line.len() {
        assert_eq!(parser.parse(&line[..end]), Ok((0, None)));
        let State::Line { searched } = parser.state else {
            panic!("in a line");
        };
        assert_eq!(searched, end - 1);
    }
    line.push(b'+');
    assert_eq!(parser.parse(&line), Err(protocol()));
}

#[test]
fn a_line_has_a_longest_length_in_any_portions() {
    for (length, is_valid) in [(MAX_LINE_LEN - 1, true), (MAX_LINE_LEN, false)] {
        let mut line = vec![b'+'; length];
        line.extend(CRLF);
        for portion in [1_000, line.len()] {
            let (_, reply) = parse(&line, portion);
            assert_eq!(
                reply.is_ok_and(|reply| reply.is_some()),
                is_valid,
                "{length}"
            );
        }
    }
}

#[test]
fn recognizes_a_tls_alert_by_its_first_byte() {
    let expected = Err(ErrorKind::Tls(TlsProblem::TlsRequired).into());
    for portion in [1, 7] {
        assert_eq!(parse(b"\x15\x03\x01\0\x02\x02\n", portion).1, expected);
    }
    assert_eq!(parse(b"\x16\x03\r\n", 9).1, Err(protocol()));
}

#[test]
fn gives_replies_of_resp3_the_shape_of_resp2() {
    let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    for (bytes, expected) in [
        (&b"_\r\n"[..], Value::Nil),
        (b"#t\r\n", Value::Int(1)),
        (b"#f\r\n", Value::Int(0)),
        (b",1.5\r\n", bulk("1.5")),
        (b"=7\r\ntxt:a\r\n\r\n", bulk("a\r\n")),
        (b"=2\r\ntx\r\n", bulk("")),
        (
            b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n~2\r\n:2\r\n_\r\n",
            Value::Array(vec![
                bulk("a"),
                Value::Int(1),
                bulk("b"),
                Value::Array(vec![Value::Int(2), Value::Nil]),
            ]),
        ),
        (
            b"*2\r\n%0\r\n~0\r\n",
            Value::Array(vec![Value::Array(vec![]); 2]),
        ),
    ] {
        for portion in [1, 2, 1_000] {
            let outcome = parse_resp3(bytes, portion);
            assert_eq!(outcome, Ok(Some(expected.clone())), "{bytes:?}");
        }
        // None of them is expected before HELLO.
        if bytes[0] != b'*' {
            assert_eq!(parse(bytes, 1_000).1, Err(protocol()), "{bytes:?}");
        }
    }
}

#[test]
fn knows_the_push_of_invalidated_keys_and_no_other() {
    let keys = |data: Vec<Value>| {
        Ok(Some(Value::Push {
            kind: PushKind::Invalidate,
            data,
        }))
    };
    let key = Value::BulkString(b"key".to_vec());
    let bytes = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n";
    for portion in [1, 3, 1_000] {
        let expected = keys(vec![Value::Array(vec![key.clone()])]);
        assert_eq!(parse_resp3(bytes, portion), expected);
    }
    let all = b">2\r\n$10\r\ninvalidate\r\n_\r\n";
    assert_eq!(parse_resp3(all, 1_000), keys(vec![Value::Nil]));
    for bytes in [
        &b">0\r\n"[..],
        b">-1\r\n",
        b">1\r\n:1\r\n",
        b">2\r\n$7\r\nmessage\r\n:1\r\n",
        // A push comes between replies, not in one.
        b"*1\r\n>1\r\n$10\r\ninvalidate\r\n",
        b"(1\r\n",
        b"|1\r\n",
        b"!3\r\nERR\r\n",
        b"#x\r\n",
        b"%-1\r\n",
        b"~-1\r\n",
        b"=-1\r\n",
    ] {
        assert_eq!(parse_resp3(bytes, 1_000), Err(protocol()), "{bytes:?}");
    }
}

#[test]
fn finds_the_end_of_a_line_that_arrives_in_two_portions() {
    for portion in 1..=5 {
        let (parser, reply) = parse(b"+\ra\r\n", portion);
        assert_eq!(reply, Ok(Some(Value::SimpleString("\ra".to_owned()))));
        assert!(!parser.has_begun());
    }
}
