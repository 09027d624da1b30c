//! Payloads as real devices send them, and what they say; rules; and that nothing makes a reading fail.

use super::*;
use proptest::prelude::*;

/// 2026-11-21T04:11:00Z.
const TAKEN: UnixNs = UnixNs(1_795_234_260_000_000_000);

fn read(payload: &str) -> Reading {
    Reading::new(None, payload.as_bytes(), TAKEN, &Rules::default())
}

/// `name=value unit` of each field, then the time if the device says one, the counter, and whether a time was ignored.
fn shown(reading: &Reading) -> String {
    let mut words: Vec<String> = Vec::new();
    for Field { name, value, unit, is_out } in &reading.fields {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("{text:?}"),
        };
        let unit = unit.as_ref().map_or_else(String::new, |unit| format!(" {unit}"));
        words.push(format!("{name}={value}{unit}{}", if *is_out { " out" } else { "" }));
    }
    words.extend(reading.device_time.map(|time| format!("at {time}")));
    words.extend(reading.counter.map(|counter| format!("#{counter}")));
    words.extend(reading.time_ignored.then(|| "ignored".to_owned()));
    words.join(", ")
}

#[test]
fn real_payloads_are_read_without_any_settings() {
    for (payload, wanted) in [
        // The seeds' clients, and people with a terminal.
        ("mensaje: numero random: 42", "numero random=42"),
        ("mensaje: temp 21.4\r\n", "temp=21.4"),
        ("21.4", "value=21.4"),
        ("21,4", "value=21.4"),
        ("21.4 °C", "value=21.4 °C"),
        ("ON", "value=\"ON\""),
        ("hola mundo", ""),
        ("", ""),
        ("T=21.4C", "T=21.4 C"),
        ("temp=21,4;hum=40,2", "temp=21.4, hum=40.2"),
        ("temp = 21.4 , hum = 40", "temp=21.4, hum=40"),
        ("temp 21.4 C hum 40 %", "temp=21.4 C, hum=40 %"),
        ("t 20 h 40", "t=20, h=40"),
        ("temperatura del horno grande 180", "del horno grande=180"),
        ("estado: bomba encendida", "estado=\"bomba encendida\""),
        ("esp7: temp 21.4 hum 40", "temp=21.4, hum=40"),
        ("acc 0.1 0.2 9.8", "acc=0.1, acc.2=0.2, acc.3=9.8"),
        ("n=17 temp=21.4", "n=17, temp=21.4, #17"),
        ("T1:21.4 T2:22.5", "T1=21.4, T2=22.5"),
        ("sensor 1: 21.4", "sensor 1=21.4"),
        ("sensor 1: 21.4, sensor 2: 22.5 C", "sensor 1=21.4, sensor 2=22.5 C"),
        ("nivel 1.5: 3", "nivel 1.5=3"),
        ("10 20 : ok", "c1=10, c2=20, c3=\":\", c4=\"ok\""),
        // Tasmota.
        (
            r#"{"Time":"2026-11-21T04:10:58","DS18B20":{"Id":"0316A2","Temperature":21.4},"TempUnit":"C"}"#,
            "DS18B20.Id=\"0316A2\", DS18B20.Temperature=21.4, TempUnit=\"C\", at 2026-11-21T04:10:58Z",
        ),
        (r#"tele/horno/STATE = {"POWER":"ON","Wifi":{"RSSI":74}}"#, "POWER=\"ON\", Wifi.RSSI=74"),
        // ESP sketches, Zigbee, LoRa.
        (r#"{"t":21.4,"h":40.5,"ok":true,"err":null}"#, "t=21.4, h=40.5, ok=1"),
        (r#"{"temp":"21.4","ts":1795234259123}"#, "temp=21.4, at 2026-11-21T04:10:59.123Z"),
        (r#"{"fCnt":71,"object":{"temp":NaN,"hum":40}}"#, "fCnt=71, object.temp=\"NaN\", object.hum=40, #71"),
        ("[21.4,22.5]", "value.0=21.4, value.1=22.5"),
        // Telegraf, in influx's line protocol.
        (
            "weather,location=us-midwest temperature=82,hum=3i,ok=true 1795234259000000000",
            "location=\"us-midwest\", temperature=82, hum=3, ok=1, at 2026-11-21T04:10:59Z",
        ),
        // NMEA.
        (
            "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
            "c1=\"GPGGA\", c2=123519, c3=4807.038, c4=\"N\", c5=1131, c6=\"E\", c7=1, c8=8, c9=0.9, c10=545.4, c11=\"M\", \
             c12=46.9, c13=\"M\"",
        ),
        // Scales: Mettler's and A&D's.
        ("S S     12.34 g", "S S=12.34 g"),
        ("ST,GS,+  12.34kg", "c1=\"ST\", c2=\"GS\", c3=12.34 kg"),
        ("ST,+00012.3  g", "ST=12.3 g"),
        // A gateway from Modbus to TCP.
        ("40001=214 40002=0x1F", "40001=214, 40002=\"0x1F\""),
        ("plc39;214;1;0", "c1=\"plc39\", c2=214, c3=1, c4=0"),
        // DS18B20 as Linux shows it, and its power-on value.
        ("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES", "crc=57"),
        ("72 01 4b 46 7f ff 0e 10 57 t=23125", "t=23125"),
        ("DS18B20 85.0", "DS18B20=85"),
        // The examples of DHT libraries.
        (
            "Humidity: 45.10%  Temperature: 21.40°C 70.52°F  Heat index: 20.94°C 69.69°F",
            "Humidity=45.1 %, Temperature=21.4 °C, Heat index=20.94 °C",
        ),
        ("Temp=21.4*C Hum=nan%", "Temp=\"21.4*C\", Hum=\"nan%\""),
        // Syslog, of both kinds.
        ("<34>1 2026-11-21T04:10:59Z horno app - - - temp=180", "temp=180, at 2026-11-21T04:10:59Z"),
        ("<13>Nov 21 04:10:59 horno app[7]: temp=180", "temp=180"),
        // CSV.
        ("21.4;40", "c1=21.4, c2=40"),
        ("esp7,21.4", "esp7=21.4"),
        ("temp,21.4,hum,40", "temp=21.4, hum=40"),
        ("temp 21.4, hum 40", "temp=21.4, hum=40"),
        ("2026-11-21 04:10:59,21.4,40", "c2=21.4, c3=40, at 2026-11-21T04:10:59Z"),
        ("2026-11-21 04:10:59,21,40", "c2=21, c3=40, at 2026-11-21T04:10:59Z"),
        ("1795234259 21.4", "value=21.4, at 2026-11-21T04:10:59Z"),
        ("a;\"1,5\";\"\"", "a=1.5"),
        // Clocks that were never set, or run out.
        (r#"{"time":"1970-01-01T00:00:12Z","temp":21.4}"#, "time=\"1970-01-01T00:00:12Z\", temp=21.4, ignored"),
        (r#"{"ts":12,"temp":21.4}"#, "ts=12, temp=21.4, ignored"),
        ("ts=4294967295 temp=21.4", "ts=4294967295, temp=21.4, ignored"),
        ("1970-01-01T00:00:12Z 21.4", "value=21.4, ignored"),
        ("4294967295 21.4", "c1=4294967295, c2=21.4"),
        // What is no number stays what it is.
        (
            "a=1e999 b=NaN c=-inf d=٣ e=1_000 f=12.34.56",
            "a=\"1e999\", b=\"NaN\", c=\"-inf\", d=\"٣\", e=\"1_000\", f=\"12.34.56\"",
        ),
        ("http://10.0.0.7:80/x 08:15:02 a::b", ""),
    ] {
        assert_eq!(shown(&read(payload)), wanted, "{payload}");
    }
}

#[test]
fn rules_say_what_cannot_be_guessed() {
    let text = "# devices\n\ncsv29: nombre t temp n\nesp7: temp °C 5..45\nbalanza: /ST,([-+0-9.]+) +g/ peso g\n\
                taller/: temp[°C] hum[%]\ntaller/horno/: grados 0..300\nm: - temp\nd: /(?<a>\\d+)\\/(?<b>\\d+)/\n*: x\n";
    let (rules, wrong) = Rules::parse(text);
    assert_eq!(wrong, []);
    for (source, payload, wanted) in [
        ("csv29", "norte;1795234259;21.4;17", "nombre=\"norte\", temp=21.4, n=17, at 2026-11-21T04:10:59Z, #17"),
        ("csv29", "norte,2026-11-21 04:10:59,21.4", "nombre=\"norte\", temp=21.4, at 2026-11-21T04:10:59Z"),
        ("esp7", "21.4", "temp=21.4 °C"),
        ("esp7", "temp=85 hum=40", "temp=85 °C out, hum=40"),
        ("esp7", "hola mundo", ""),
        ("balanza", "ST,+00012.3  g", "peso=12.3 g"),
        ("balanza", "US,+00012.3  g", ""),
        ("taller/torno", "21.4 40 7", "temp=21.4 °C, hum=40 %, c3=7"),
        ("taller/horno/2", "301", "grados=301 out"),
        ("m", "99;21.4", "temp=21.4"),
        ("d", "12/34", "a=12, b=34"),
        ("otro", "5", "x=5"),
    ] {
        let reading = Reading::new(source.parse().ok(), payload.as_bytes(), TAKEN, &rules);
        assert_eq!(shown(&reading), wanted, "{source}: {payload}");
    }
    assert_eq!(shown(&Reading::new(None, b"5", TAKEN, &rules)), "x=5");
}

#[test]
fn a_wrong_rule_is_named_and_the_others_hold() {
    let text = format!(
        "esp7 temp\nesp8:\n: temp\na: 5..45\nb: temp 45..5\nc: /(x/ x\nd: /x\ne: /(x)(y)/ x\nf: /\\w{{9999}}/\n{}: x\ng: ok",
        "x".repeat(2000)
    );
    let (rules, wrong) = Rules::parse(&text);
    let told: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    for (line, begin) in [
        "line 1: no rule; write",
        "line 2: esp8 has no columns",
        "line 3: no rule",
        "line 4: 5..45 stands before any name",
        "line 5: 45..5 is no range",
        "line 6: the regular expression cannot be used: unclosed group",
        "line 7: the regular expression has no end",
        "line 8: the regular expression has 2 groups for 1 names",
        "line 9: the regular expression cannot be used: Compiled regex exceeds size limit",
        "line 10: longer than 1024 bytes",
    ]
    .iter()
    .enumerate()
    {
        assert!(told[line].starts_with(begin), "{:?}", told[line]);
    }
    assert_eq!(told.len(), 10);
    let (_, wrong) = Rules::parse(
        "esp@: x\n/: x\nr3: /x/\nr4: temp °C temp\nr5: temp 1..2 3..4\na//b: x\nacopio/x: y\n*: - -\ntaller/: x\nr6: /x/ y",
    );
    let told: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let wanted = [
        "line 1: \"esp@\" is not a source's name: '@' is not in a name",
        "line 2: \"/\" is not a source's name: a / stands between",
        "line 3: the regular expression has no group; put",
        "line 4: temp stands there twice",
        "line 5: 3..4 is the second range of one column",
        "line 6: \"a//b\" is not a source's name",
        "line 7: \"acopio/x\" is not a source's name",
        "line 10: the regular expression has no group",
    ];
    assert_eq!(told.len(), wanted.len(), "{told:?}");
    wanted.iter().zip(&told).for_each(|(begin, told)| assert!(told.starts_with(begin), "{told}"));
    assert_eq!(shown(&Reading::new("g".parse().ok(), b"5", TAKEN, &rules)), "ok=5");
    let many: String = (0..=RULES_MAX_FOR_TEST).map(|k| format!("d{k}: x\n")).collect();
    assert!(matches!(Rules::parse(&many).1.as_slice(), [RuleError { line: 1001, wrong: WrongRule::TooMany }]));
}

const RULES_MAX_FOR_TEST: usize = crate::limits::RULES_MAX;

#[test]
fn an_expression_that_explodes_elsewhere_takes_no_time_here() {
    let (rules, wrong) = Rules::parse("x: /^(a+)+$/ a");
    assert_eq!(wrong, []);
    let payload = format!("{}b", "a".repeat(READING_BYTES_MAX - 1));
    assert_eq!(Reading::new("x".parse().ok(), payload.as_bytes(), TAKEN, &rules).fields, []);
}

#[test]
fn what_is_too_much_is_cut_and_says_so() {
    let long = read(&"x".repeat(READING_BYTES_MAX + 1));
    assert!(long.is_cut && long.fields.is_empty());
    let many: String = (0..=READING_FIELDS_MAX).map(|k| format!("a{k}={k} ")).collect();
    let json = format!("[{}1]", "1,".repeat(READING_FIELDS_MAX));
    for payload in [many, json, "1;".repeat(READING_FIELDS_MAX + 1)] {
        let reading = read(&payload);
        assert_eq!((reading.fields.len(), reading.is_cut), (READING_FIELDS_MAX, true), "{payload}");
    }
    let name = "x".repeat(READING_NAME_BYTES_MAX + 1);
    assert!(read(&format!("{{\"{name}\":1}}")).is_cut);
}

/// A name that every form can say.
fn name() -> impl Strategy<Value = String> {
    "[a-z]{3,8}_[a-z]{3}"
}

fn number() -> impl Strategy<Value = f64> {
    let short = (-1000_i32..1000).prop_map(|n| f64::from(n) / 10.0);
    prop_oneof![prop::num::f64::NORMAL | prop::num::f64::ZERO, short]
}

proptest! {
    #[test]
    fn no_payload_makes_it_panic_and_no_value_is_infinite(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            "[-+0-9.,;:= \\t\"'{}\\[\\]eEtTnNaC%°/ñ٣]{0,60}",
            "(mensaje: |<1>|\\$)?[a-z]{0,4}[=: ]?[0-9.,e]{0,8}[ °C]{0,3}([,; |\t]|  )[a-z0-9=:. -]{0,30}",
        ],
    ) {
        let (rules, _) = Rules::parse("*: a b °C 1..5 c");
        for rules in [&rules, &Rules::default()] {
            let reading = Reading::new("x/y".parse().ok(), payload.as_bytes(), TAKEN, rules);
            for field in &reading.fields {
                prop_assert!(field.number().is_none_or(f64::is_finite), "{field:?}");
                prop_assert!(!field.name.is_empty(), "{reading:?}");
            }
        }
    }

    #[test]
    fn what_is_printed_is_read_back_in_every_form(fields in prop::collection::vec((name(), number()), 1..6)) {
        let joined = |sign: &str, between: &str| {
            fields.iter().map(|(name, number)| format!("{name}{sign}{number}")).collect::<Vec<_>>().join(between)
        };
        let json = joined("\":", ",\"");
        let forms = [
            joined("=", " "), joined("=", ","), joined(": ", ", "), joined(":", ";"), joined(" ", " "), joined(",", ","),
            joined(" = ", "; "), format!("{{\"{json}}}"),
        ];
        for form in forms {
            let reading = read(&form);
            let of_json = form.starts_with('{');
            for (k, (name, number)) in fields.iter().enumerate() {
                let is_first = fields.iter().position(|(other, _)| other == name) == Some(k);
                if is_first && !of_json {
                    prop_assert_eq!(reading.number(name), Some(*number), "{}", form);
                }
                prop_assert!(reading.number(name).is_some(), "{}", form);
            }
        }
    }

    #[test]
    fn no_rule_makes_it_panic(text in "([a-z*/]{1,4}: ?(/[a-z()+*\\\\]{0,8}/)?[a-z0-9. \\[\\]°C-]{0,20}\n){0,4}|\\PC{0,60}", payload in "[a-z0-9,;= ]{0,20}") {
        let (rules, _) = Rules::parse(&text);
        let _reading = Reading::new("a/b".parse().ok(), payload.as_bytes(), TAKEN, &rules);
    }
}
