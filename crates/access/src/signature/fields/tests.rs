use expect_test::expect;
use proptest::prelude::*;

use super::*;

#[test]
fn what_is_written_in_its_one_way_is_read_with_all_its_parts() {
    let text = r#"a=("@method" "x-y";sf);created=1;keyid="k\"1";t, b.2-*=:AAEC:;x=tok/en:*	, c=-12"#;
    let members = dictionary(text).unwrap();
    expect![[r#"
        [
            Member {
                label: "a",
                value: List(
                    [
                        Item {
                            bare: Text(
                                "@method",
                            ),
                            parameters: [],
                        },
                        Item {
                            bare: Text(
                                "x-y",
                            ),
                            parameters: [
                                (
                                    "sf",
                                    Boolean,
                                ),
                            ],
                        },
                    ],
                ),
                parameters: [
                    (
                        "created",
                        Integer(
                            1,
                        ),
                    ),
                    (
                        "keyid",
                        Text(
                            "k\\\"1",
                        ),
                    ),
                    (
                        "t",
                        Boolean,
                    ),
                ],
                raw: "(\"@method\" \"x-y\";sf);created=1;keyid=\"k\\\"1\";t",
            },
            Member {
                label: "b.2-*",
                value: Item(
                    Bytes(
                        [
                            0,
                            1,
                            2,
                        ],
                    ),
                ),
                parameters: [
                    (
                        "x",
                        Token,
                    ),
                ],
                raw: ":AAEC:;x=tok/en:*",
            },
            Member {
                label: "c",
                value: Item(
                    Integer(
                        -12,
                    ),
                ),
                parameters: [],
                raw: "-12",
            },
        ]
    "#]]
    .assert_debug_eq(&members);
}

#[test]
fn other_ways_to_write_the_same_and_everything_else_are_refused() {
    for bad in [
        "",
        " a=1",
        "a=1,",
        ",a=1",
        "a",
        "a=",
        "A=1",
        "1=1",
        "a =1",
        "a= 1",
        "a=1 b=2",
        "a=1, a=2",
        "a=007",
        "a=-0",
        "a=--1",
        "a=1.5",
        "a=1234567890123456",
        "a=\"x",
        "a=\"\\x\"",
        "a=\"ä\"",
        "a=\"\t\"",
        "a=:A:",
        "a=:AA:",
        "a=:AAB=:",
        "a=:AA==",
        "a=:AA_-:",
        "a=?2",
        "a=(",
        "a=()()",
        "a=( \"x\")",
        "a=(\"x\" )",
        "a=(\"x\"  \"y\")",
        "a=(\"x\"\"y\")",
        "a=(\"x\"\t\"y\")",
        "a=1;",
        "a=1; b",
        "a=1;b=?1",
        "a=1;b;b",
        "a=1;B",
        "a=@1",
        "a=%\"x\"",
        "a=1\u{a0}",
    ] {
        assert!(dictionary(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn how_much_is_read_is_bounded() {
    let many = |count: usize, one: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(one).collect::<Vec<_>>().join(between)
    };
    for (most, text) in [
        (
            MAX_MEMBERS,
            &(|count| many(count, &|number| format!("a{number}=1"), ", ")) as &dyn Fn(usize) -> String,
        ),
        (MAX_ITEMS, &|count| format!("a=({})", many(count, &|number| format!("\"{number}\""), " "))),
        (MAX_PARAMETERS, &|count| format!("a=1{}", many(count, &|number| format!(";p{number}"), ""))),
        (MAX_DIGITS, &|count| format!("a={}", "9".repeat(count))),
    ] {
        assert!(dictionary(&text(most)).is_ok(), "{}", text(most));
        assert!(dictionary(&text(most + 1)).is_err(), "{}", text(most + 1));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_the_same_again_from_what_was_read(text in "[a-c0=\\-, ()\";:?A\\\\.@*]{0,40}") {
        if let Ok(members) = dictionary(&text) {
            let again: Vec<_> = members.iter().map(|member| format!("{}={}", member.label, member.raw)).collect();
            let again = again.join(", ");
            prop_assert_eq!(dictionary(&again), Ok(members));
        }
    }

    #[test]
    fn any_characters_are_read_or_refused(text in "\\PC{0,40}") {
        let _either = dictionary(&text).is_ok();
    }
}
