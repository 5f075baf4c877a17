//! The report of accesses as people read it: a table for spreadsheets, and a page to print. Both are made from the
//! signed report; what is checked is that one.

use std::fmt::Write as _;

use stele_core::{
    consent::Purpose,
    export::AuditReport,
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};

use super::page::{document, escaped};

fn action(receipt: &AccessReceipt) -> &'static str {
    match AccessAction::from_code(receipt.action) {
        Some(AccessAction::Read) => "read",
        Some(AccessAction::Search) => "search",
        Some(AccessAction::History) => "history",
        Some(AccessAction::Export) => "export",
        Some(AccessAction::Write) => "write",
        Some(AccessAction::Delete) => "delete",
        Some(AccessAction::Maintenance) => "maintenance",
        Some(AccessAction::Proof) => "proof",
        None => "unknown",
    }
}

fn purposes(receipt: &AccessReceipt, word: impl Fn(Purpose) -> &'static str) -> String {
    let words: Vec<&str> = Purpose::ALL
        .into_iter()
        .filter(|purpose| receipt.purposes & purpose.bit() != 0)
        .map(word)
        .collect();
    words.join(", ")
}

/// The report as a table (RFC 4180): when, who, organisation, what, outcome, why, how many records, and the place in
/// the organisation's sequence of receipts. No field holds a comma but the purposes, which are quoted.
#[must_use]
pub fn audit_csv(report: &AuditReport) -> String {
    let mut out =
        String::from("when,who,organization,action,outcome,purposes,records,sequence,digest\r\n");
    for one in &report.receipts {
        let _ = write!(
            out,
            "{},{},{},{},{},\"{}\",{},{},{}\r\n",
            Timestamp(one.at_ms).to_instant(),
            one.actor,
            one.organization,
            action(one),
            if one.allowed { "allowed" } else { "refused" },
            purposes(one, Purpose::code),
            one.records,
            one.sequence,
            one.digest()
        );
    }
    out
}

/// The report as a page: newest first, refused attempts marked.
#[must_use]
pub fn audit_page(report: &AuditReport) -> String {
    let refused = report.receipts.iter().filter(|one| !one.allowed).count();
    let mut body = format!(
        "<div class=\"page-head\"><div class=\"tight\"><h1>Who opened your record</h1>\
         <p class=\"soft\">{} accesses, {refused} of them refused, up to {} UTC</p></div></div>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Accesses\"><table><thead><tr>\
         <th scope=\"col\">When (UTC)</th><th scope=\"col\">Who</th><th scope=\"col\">What</th>\
         <th scope=\"col\">Why</th><th scope=\"col\">Entries</th></tr></thead><tbody>\n",
        report.receipts.len(),
        escaped(
            &report
                .made
                .replace('T', " ")
                .chars()
                .take(16)
                .collect::<String>()
        )
    );
    for one in report.receipts.iter().rev() {
        let when = Timestamp(one.at_ms).to_instant();
        let outcome = if one.allowed {
            ""
        } else {
            " <span class=\"tag\">Refused</span>"
        };
        let _ = writeln!(
            body,
            "<tr><td class=\"nowrap\">{}</td><td><code>{}</code><br><span class=\"small soft\">of <code>{}</code></span>\
             </td><td>{}{outcome}</td><td>{}</td><td>{}</td></tr>",
            when.replace('T', " ").chars().take(19).collect::<String>(),
            one.actor,
            one.organization,
            action(one),
            escaped(&purposes(one, Purpose::words)),
            one.records
        );
    }
    body.push_str(
        "</tbody></table></div>\n<section class=\"notice\"><h2>What this shows</h2><p>Every time somebody asked this \
         system for the record, also when they were refused. It can’t show what was done with a printed copy or by \
         somebody looking over a shoulder.</p><p>The signed report that this page was made from can be checked by \
         anyone:</p><p><code>stele verify audit accesses.json --genesis genesis.json</code></p></section>\n",
    );
    document("Access history – Stele", &body)
}

#[cfg(test)]
mod tests {
    use stele_core::{export::SignerProof, id::IDENTITY, proof::StateProof};

    use super::*;

    fn report() -> AuditReport {
        let state = StateProof {
            contract: IDENTITY,
            words: Vec::new(),
            account: Default::default(),
            account_proof: Vec::new(),
            headers: Vec::new(),
            certificate: Default::default(),
            changes: Vec::new(),
        };
        let receipt = AccessReceipt {
            sequence: 4,
            action: AccessAction::Read.code(),
            purposes: Purpose::Treat.bit() | Purpose::Hpaymt.bit(),
            records: 2,
            ..AccessReceipt::default()
        };
        AuditReport {
            format: String::new(),
            made: "2026-03-01T10:11:12.000Z".into(),
            patient_id: "p1".into(),
            patient: Default::default(),
            signer: SignerProof {
                account: Default::default(),
                state,
            },
            sequences: Vec::new(),
            receipts: vec![receipt],
            page: None,
        }
    }

    #[test]
    fn who_what_when_and_why_are_in_the_table_and_on_the_page() {
        let table = audit_csv(&report());
        let line = table.lines().nth(1).expect("a line");
        assert!(line.starts_with("1970-01-01T00:00:00.000Z,0x"), "{line}");
        assert!(
            line.contains(",read,refused,\"TREAT, HPAYMT\",2,4,"),
            "{line}"
        );
        let page = audit_page(&report());
        assert!(page.contains("Refused") && page.contains("treatment, payment"));
        assert!(page.contains("Content-Security-Policy") && !page.contains("<script"));
    }
}
