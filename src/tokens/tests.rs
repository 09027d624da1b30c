//! Tests of the file of tokens: what a line says, what a wrong one comes to, and who has which token.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::source::tests::any_name;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// What `printf %s 0123456789abcdef0123456789abcdef | sha256sum` prints.
const HASH: &str = "3eb1bd439947eb762998e566ccc2e099c791118b2f40579cc4f7da2b5061b7f9";

fn hash() -> SecretHash {
    SecretHash::of(&SECRET.parse().unwrap())
}

fn only(line: &str) -> Token {
    let (tokens, wrong) = Tokens::parse(line);
    assert_eq!((tokens.len(), wrong), (1, Vec::new()), "{line}");
    tokens.iter().next().unwrap().clone()
}

fn who(name: &str) -> Option<Who> {
    Some(Who::from_bytes(name.as_bytes()).unwrap())
}

#[test]
fn a_line_says_what_its_token_lets_do() {
    let line = format!("cellar sha256={} roles=write,read as=taller/*,esp7 until=2027-01-31 rate=100", hash());
    let token = only(&line);
    assert_eq!(token.to_string(), line);
    assert!(token.may(Role::Write) && token.may(Role::Read) && !token.may(Role::Admin));
    for (name, may) in
        [("taller/horno", true), ("taller/", true), ("taller/a/", true), ("esp7", true), ("esp70", false)]
    {
        assert_eq!(token.may_write_as(who(name)), may, "{name}");
    }
    assert!(!token.may_write_as(who("taller")) && !token.may_write_as(None), "who says no name is nobody");
    assert!(only(&format!("x sha256={} roles=write", hash())).may_write_as(None));
    let end: Timestamp = "2027-02-01T00:00:00Z".parse().unwrap();
    let end = SystemTime::from(end);
    assert!(token.is_over(end) && !token.is_over(end - Duration::from_secs(1)), "to the end of the day");
}

#[test]
fn who_has_a_token_is_told_by_its_secret_or_its_address() {
    let text = format!(
        "# who\na sha256={} roles=read # a remark\nwide from=10.0.0.0/8 roles=write\nnear from=10.0.7.0/24 roles=write as=n/*\n",
        hash()
    );
    let (tokens, wrong) = Tokens::parse(&text);
    assert_eq!((tokens.len(), wrong), (3, Vec::new()));
    assert_eq!(tokens.of_secret(&hash()).unwrap().name, "a");
    let other = SecretHash::of(&"f".repeat(32).parse().unwrap());
    assert!(tokens.of_secret(&other).is_none());
    for (ip, name) in [("10.0.7.3", Some("near")), ("10.0.8.3", Some("wide")), ("11.0.0.1", None), ("::1", None)] {
        assert_eq!(tokens.of_address(ip.parse().unwrap()).map(|token| token.name.clone()).as_deref(), name, "{ip}");
    }
}

#[test]
fn the_hash_is_the_one_that_sha256sum_makes() {
    assert_eq!(hash().to_string(), HASH);
    let again: SecretHash = hash().to_string().parse().unwrap();
    assert!(again.is(&hash()));
    assert_eq!(format!("{:?}", hash()), "SecretHash(…)");
}

#[test]
fn a_wrong_line_is_named_without_what_it_says_and_the_others_count() {
    let good = format!("good sha256={} roles=write", hash());
    let cases = [
        ("a roles=write".to_owned(), "none of sha256=, from= and certificate"),
        (format!("a sha256={SECRET} roles=write"), "64 digits"),
        (format!("a sha256={}", SecretHash::of(&"e".repeat(32).parse().unwrap())), "no roles="),
        ("a from=10.0.0.0/33 roles=write".to_owned(), "neither an address nor a network"),
        ("a from=10.0.0.1 roles=wirte".to_owned(), "is no role; take write, read or admin"),
        ("a from=10.0.0.1 roles=write as=*x".to_owned(), "names no sources"),
        ("a from=10.0.0.1 roles=write until=tomorrow".to_owned(), "is no day"),
        ("a from=10.0.0.1 roles=write until=2027-02-30".to_owned(), "is no day"),
        ("a from=10.0.0.1 roles=write rate=0".to_owned(), "1 or more"),
        (format!("a from=10.0.0.1 roles=write secret={SECRET}"), "a word is not known"),
        (format!("a from=10.0.0.1 sha256={} roles=write", hash()), "take one"),
        ("a certificate from=10.0.0.1 roles=write".to_owned(), "take one"),
        ("a certificate=x roles=write".to_owned(), "a word is not known"),
        ("a from=10.0.0.1 roles=write roles=read".to_owned(), "roles= is there twice"),
        (good.clone(), "there is a token good above it"),
        (format!("other sha256={} roles=read", hash()), "the same secret"),
        ("a=b from=10.0.0.1 roles=write".to_owned(), "is no name of a token"),
    ];
    for (line, wanted) in cases {
        let (tokens, wrong) = Tokens::parse(&format!("{good}\n{line}\nlast from=10.9.9.9 roles=read\n"));
        let told: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!((tokens.len(), told.len()), (2, 1), "{line}: {told:?}");
        assert!(told[0].starts_with("line 2 of the tokens: ") && told[0].contains(wanted), "{line}: {told:?}");
        assert!(!told[0].contains(SECRET), "{told:?}");
    }
}

#[test]
fn a_certificate_may_what_the_line_of_its_name_says_and_else_write_and_read() {
    let (tokens, wrong) = Tokens::parse("esp7 certificate roles=write as=esp7\nesp8 certificate roles=read\n");
    assert!(wrong.is_empty(), "{wrong:?}");
    let (esp7, esp8) = (tokens.of_name("esp7").unwrap(), tokens.of_name("esp8").unwrap());
    assert!(esp7.may(Role::Write) && !esp7.may(Role::Read) && esp8.may(Role::Read));
    assert_eq!(esp7.to_string(), "esp7 certificate roles=write as=esp7");
    assert!(tokens.of_name("esp9").is_none() && tokens.of_secret(&hash()).is_none());
    let other = tokens.of_certificate("esp9").unwrap();
    assert_eq!((other.roles.as_slice(), other.may_write_as(None)), (&[Role::Write, Role::Read][..], true));
}

#[test]
fn a_certificate_whose_line_is_wrong_may_nothing() {
    let text = "esp7 certificate roles=lee\nesp8 certificates roles=read\nesp9 roles=read # certificate\n\
                esp1 certificate roles=read\nesp1 certificate roles=admin";
    let (tokens, wrong) = Tokens::parse(text);
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    assert!(tokens.of_certificate("esp7").is_none() && tokens.of_certificate("esp8").is_none());
    assert!(tokens.of_certificate("esp9").is_some(), "what stands in a remark says nothing");
    assert!(tokens.of_certificate("esp1").is_some_and(|token| !token.may(Role::Admin)));
}

fn pattern() -> impl Strategy<Value = Pattern> {
    (any_name(), any::<bool>()).prop_map(|(name, open)| {
        let text = name.to_string();
        Pattern { text: if open { text.chars().take(20).collect() } else { text }, open }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        secret: [u8; 16], roles in 1_u8..8, sources in prop::collection::vec(pattern(), 0..4), rate: u32, day in 1_i8..28,
    ) {
        let bits = [(1, Role::Write), (2, Role::Read), (4, Role::Admin)];
        let token = Token {
            name: "a-token".to_owned(),
            evidence: Evidence::Secret(SecretHash::of(&Secret::from_random(secret))),
            roles: bits.into_iter().filter(|(bit, _)| roles & bit != 0).map(|(_, role)| role).collect(),
            sources,
            until: (day > 3).then(|| format!("2031-05-{day:02}").parse().unwrap()),
            rate: NonZeroU32::new(rate),
        };
        prop_assert_eq!(only(&token.to_string()), token);
    }

    #[test]
    fn any_text_is_read(text in ".{0,200}") {
        let (tokens, _) = Tokens::parse(&text);
        prop_assert!(tokens.len() <= text.lines().count());
    }
}
