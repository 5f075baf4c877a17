//! The pages themselves.

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256, utils::format_ether};
use maud::{Markup, html};
use serde_json::{Value, json};
use stele_core::time::Timestamp;
use stele_service::{
    development::Mining,
    ports::{
        BlockRef, BlockView, LedgerError, LogFilter, LogView, ReceiptView, SlotQuery, Traced,
        TransactionView,
    },
};

use super::{
    Inspected, Problem, Shown,
    abi::{self, Decoded},
    shell,
};
use crate::{
    page::{head, icon},
    shown::{clock, moment, short},
};

/// Blocks and transactions on the first page.
const LATEST: u64 = 20;
/// Slots on one page.
const SLOTS: usize = 100;
/// Logs of an account that are shown, and how many are looked at for them.
const LOGS: usize = 50;
const LOGS_SEEN: usize = 10_000;
/// Plain slots whose hashed keys are recognised: variables of a contract stand in the first ones.
const PLAIN_SLOTS: u64 = 256;

impl Inspected {
    pub(super) fn block_by(&self, hash: B256) -> Result<Option<BlockView>, LedgerError> {
        match self.ledger.block(BlockRef::Hash(hash)) {
            // A hash that no block has is told as one whose block is not there.
            Err(LedgerError::NotAvailable { .. }) => Ok(None),
            found => found,
        }
    }

    /// An account as a link: what it is, and its address.
    fn link(&self, account: Address) -> Markup {
        let place = self.chain.accounts().iter().position(|one| *one == account);
        html! {
            a href={ "/accounts/" (account) } {
                @if let Some(name) = abi::name(account) { (name) }
                @else if let Some(place) = place { "Account " (place) }
                @else { span.mono { (short(&account.to_string())) } }
            }
        }
    }

    /// The last transactions from a block down, newest first.
    fn latest(&self, height: u64) -> Result<Vec<(TransactionView, ReceiptView)>, LedgerError> {
        let most = usize::try_from(LATEST).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for height in (0..=height).rev().take(SEARCHED) {
            let sent = self.ledger.transactions_of(height)?;
            let done = self.ledger.receipts_of(height)?;
            found.extend(sent.into_iter().zip(done).rev());
            if found.len() >= most {
                break;
            }
        }
        found.truncate(most);
        Ok(found)
    }
}

/// Blocks that are searched for the last transactions.
const SEARCHED: usize = 1_000;

pub(super) fn start(inspected: &Inspected) -> Shown {
    let ledger = &inspected.ledger;
    let height = ledger.height();
    let mining = match inspected.chain.mining() {
        Mining::Instant => "a block for each transaction".to_owned(),
        Mining::Interval(ms) => format!("a block every {ms} ms"),
        Mining::Manual => "only when asked for (evm_mine)".to_owned(),
    };
    let (ready, waiting) = ledger.pool_size();
    let mut blocks = Vec::new();
    for height in (0..=height)
        .rev()
        .take(usize::try_from(LATEST).unwrap_or(0))
    {
        blocks.extend(ledger.block(BlockRef::Number(height))?);
    }
    let main = html! {
        div.page-head {
            h1 { "Development chain " (ledger.facts().chain_id) }
            a.btn href="/" { "Look again" }
        }
        dl.facts {
            dt { "JSON-RPC" } dd.mono { (inspected.rpc) }
            dt { "Height" } dd { (height) }
            dt { "Blocks are made" } dd { (mining) }
            dt { "Transactions that wait" } dd { (ready.saturating_add(waiting)) }
        }
        section.flow { h2 { "Accounts" } (accounts(inspected)?) }
        section.flow { h2 { "Last transactions" } (transactions(inspected, &inspected.latest(height)?)) }
        section.flow { h2 { "Last blocks" } (block_table(&blocks)) }
        section.flow {
            h2 { "System contracts" }
            ul.links { @for (address, _) in abi::contracts() { li { (inspected.link(address)) " " span.mono.soft { (address) } } } }
        }
    };
    Ok(shell("Overview", &main))
}

fn accounts(inspected: &Inspected) -> Result<Markup, LedgerError> {
    let mut rows = Vec::new();
    for account in inspected.chain.accounts() {
        let (balance, nonce, _) = inspected.ledger.account(account, BlockRef::Latest)?;
        rows.push((account, balance, nonce));
    }
    Ok(html! {
        table.stacks role="table" {
            caption.hide { "Accounts with keys" }
            (head(&["Account", "Address", "Balance", "Nonce"]))
            tbody role="rowgroup" {
                @for (account, balance, nonce) in &rows {
                    tr role="row" {
                        th role="rowheader" scope="row" { (inspected.link(*account)) }
                        td.mono role="cell" data-label="Address" { (account) }
                        td role="cell" data-label="Balance" { (coins(*balance)) }
                        td role="cell" data-label="Nonce" { (nonce) }
                    }
                }
            }
        }
    })
}

fn block_table(blocks: &[BlockView]) -> Markup {
    html! {
        table.stacks role="table" {
            caption.hide { "Last blocks, newest first" }
            (head(&["Block", "Time", "Transactions", "Gas used"]))
            tbody role="rowgroup" {
                @for block in blocks {
                    tr role="row" {
                        th role="rowheader" scope="row" { a href={ "/blocks/" (block.header.number) } { (block.header.number) } }
                        td role="cell" data-label="Time" { (clock(Timestamp(block.header.timestamp_ms))) }
                        td role="cell" data-label="Transactions" { (block.transactions.len()) }
                        td role="cell" data-label="Gas used" { (block.header.gas_used) }
                    }
                }
            }
        }
    }
}

fn transactions(inspected: &Inspected, list: &[(TransactionView, ReceiptView)]) -> Markup {
    html! {
        @if list.is_empty() { p.soft { "There are none yet." } } @else {
            table.stacks role="table" {
                caption.hide { "Transactions, newest first" }
                (head(&["Transaction", "Block", "From", "To", "What", "Outcome"]))
                tbody role="rowgroup" {
                    @for (sent, done) in list {
                        tr role="row" {
                            th role="rowheader" scope="row" { a.mono href={ "/transactions/" (sent.hash) } { (short(&sent.hash.to_string())) } }
                            td role="cell" data-label="Block" { (done.position.height) }
                            td role="cell" data-label="From" { (inspected.link(sent.sender)) }
                            td role="cell" data-label="To" { (target(inspected, done)) }
                            td role="cell" data-label="What" { (what(sent)) }
                            td role="cell" data-label="Outcome" { (outcome(done.receipt.success)) }
                        }
                    }
                }
            }
        }
    }
}

fn target(inspected: &Inspected, done: &ReceiptView) -> Markup {
    html! {
        @match (done.to, done.created) {
            (Some(to), _) => (inspected.link(to)),
            (None, Some(created)) => { "new " (inspected.link(created)) },
            (None, None) => "–",
        }
    }
}

/// A transaction in a word: the function, or what its data begins with.
fn what(sent: &TransactionView) -> String {
    let input = sent.transaction.input();
    match sent.transaction.to() {
        TxKind::Create => "makes a contract".to_owned(),
        TxKind::Call(_) if input.is_empty() => "sends coins".to_owned(),
        TxKind::Call(to) => abi::call(to, input).map_or_else(
            || hex::encode_prefixed(input.get(..4).unwrap_or(input)),
            |call| call.name,
        ),
    }
}

fn outcome(success: bool) -> Markup {
    html! {
        @if success { span.state.ok { (icon("check")) " Done" } }
        @else { span.state.bad { (icon("circle-x")) " Reverted" } }
    }
}

pub(super) fn block(inspected: &Inspected, height: u64) -> Shown {
    let found = inspected.ledger.block(BlockRef::Number(height))?;
    let block = found.ok_or_else(|| Problem::NotThere(format!("There is no block {height}.")))?;
    let sent = inspected.ledger.transactions_of(height)?;
    let done = inspected.ledger.receipts_of(height)?;
    let list: Vec<_> = sent.into_iter().zip(done).collect();
    let header = &block.header;
    let main = html! {
        a.back href="/" { "Back to the start" }
        h1 { "Block " (height) }
        dl.facts {
            dt { "Time" } dd { (moment(Timestamp(header.timestamp_ms))) " UTC" }
            dt { "Hash" } dd.mono { (block.hash) }
            dt { "Parent" } dd.mono { (header.parent_hash) }
            dt { "State root" } dd.mono { (header.state_root) }
            dt { "Gas" } dd { (header.gas_used) " of " (header.gas_limit) }
            dt { "Size" } dd { (block.size_bytes) " bytes" }
        }
        section.flow { h2 { "Transactions" } (transactions(inspected, &list)) }
        nav.actions aria-label="Blocks" {
            @if let Some(before) = height.checked_sub(1) { a.btn href={ "/blocks/" (before) } { "Block " (before) } }
            @if height < inspected.ledger.height() { a.btn href={ "/blocks/" (height.saturating_add(1)) } { "Block " (height.saturating_add(1)) } }
        }
    };
    Ok(shell("A block", &main))
}

pub(super) fn transaction(inspected: &Inspected, hash: B256) -> Shown {
    let not_there = || Problem::NotThere("There is no such transaction.".into());
    let sent = inspected.ledger.transaction(hash)?.ok_or_else(not_there)?;
    let receipt = inspected.ledger.receipt(hash)?;
    let transaction = &sent.transaction;
    let input = transaction.input();
    let call = match transaction.to() {
        TxKind::Call(to) => abi::call(to, input),
        TxKind::Create => None,
    };
    let main = html! {
        a.back href="/" { "Back to the start" }
        h1 { "Transaction" }
        dl.facts {
            dt { "Hash" } dd.mono { (hash) }
            dt { "Outcome" } dd {
                @match &receipt { Some(done) => (outcome(done.receipt.success)), None => "Waits for a block" }
            }
            dt { "From" } dd { (inspected.link(sent.sender)) " " span.mono.soft { (sent.sender) } }
            @if let Some(done) = &receipt {
                dt { "Block" } dd { a href={ "/blocks/" (done.position.height) } { (done.position.height) } }
                dt { "To" } dd { (target(inspected, done)) }
                dt { "Gas used" } dd { (done.gas_used) " of " (transaction.gas_limit()) }
            }
            dt { "Nonce" } dd { (transaction.nonce()) }
            dt { "Value" } dd { (coins(transaction.value())) }
            dt { "Type" } dd { (transaction.tx_type()) }
        }
        @if let Some(done) = receipt.as_ref().filter(|done| !done.receipt.success) { (refusal(inspected, done)) }
        section.flow {
            h2 { "What was asked" }
            @if let Some(call) = &call { (decoded(call)) }
            @if input.is_empty() { p.soft { "No data." } } @else { (raw("Data", input)) }
        }
        @if let Some(done) = &receipt {
            section.flow { h2 { "Logs" } (logs(inspected, done.receipt.logs.iter())) }
        }
    };
    Ok(shell("A transaction", &main))
}

/// Why a transaction was reverted, from its trace.
fn refusal(inspected: &Inspected, done: &ReceiptView) -> Markup {
    let output = output(inspected, done.hash).unwrap_or_default();
    html! {
        div.notice.bad {
            h2 { "Why it was reverted" }
            @match abi::error(&output) {
                Some(error) => (decoded(&error)),
                None if output.is_empty() => p { "It gave no reason: out of gas, or a revert without data." },
                None => (raw("Its answer", &output)),
            }
        }
    }
}

/// What a transaction answered; the state it stands on may be kept no more.
fn output(inspected: &Inspected, hash: B256) -> Option<Bytes> {
    let options = json!({ "tracer": "callTracer", "tracerConfig": { "onlyTopCall": true } });
    let options = serde_json::from_value(options).ok()?;
    let traced = inspected.ledger.trace(&Traced::Transaction(hash), &options);
    let trace = traced.ok()??.into_iter().next()?.trace;
    let trace: Value = serde_json::to_value(trace).ok()?;
    trace.get("output")?.as_str()?.parse().ok()
}

pub(super) fn account(inspected: &Inspected, address: Address, from: B256) -> Shown {
    let (balance, nonce, code) = inspected.ledger.account(address, BlockRef::Latest)?;
    let asked = SlotQuery {
        address,
        at: BlockRef::Latest,
        before: None,
        from,
        max: SLOTS,
    };
    let slots = inspected.ledger.slots(&asked)?.unwrap_or_default();
    let name = abi::name(address).map_or_else(
        || {
            if code.is_empty() {
                "Account"
            } else {
                "Contract"
            }
            .to_owned()
        },
        |name| format!("{name}, a system contract"),
    );
    let main = html! {
        a.back href="/" { "Back to the start" }
        h1 { (name) }
        dl.facts {
            dt { "Address" } dd.mono { (address) }
            dt { "Balance" } dd { (coins(balance)) }
            dt { "Nonce" } dd { (nonce) }
            @if !code.is_empty() { dt { "Code" } dd { (code.len()) " bytes, hash " span.mono { (keccak256(&code)) } } }
        }
        @if !code.is_empty() { (raw("Code", &code)) }
        section.flow {
            h2 { "Storage" }
            @if slots.slots.is_empty() { p.soft { "Nothing is stored." } } @else { (storage(&slots.slots)) }
            @if let Some(next) = slots.next { div.actions { a.btn href={ "/accounts/" (address) "?from=" (next) } { "Show more slots" } } }
        }
        section.flow { h2 { "Last logs" } (account_logs(inspected, address)?) }
    };
    Ok(shell("An account", &main))
}

/// Slots by hashed key. A trie does not know its keys, but those of a contract's first variables are recognised.
fn storage(slots: &[(B256, U256)]) -> Markup {
    let plain: Vec<(B256, u64)> = (0..PLAIN_SLOTS)
        .map(|slot| (keccak256(B256::from(U256::from(slot))), slot))
        .collect();
    let known = |key: &B256| {
        plain
            .iter()
            .find(|(hashed, _)| hashed == key)
            .map(|(_, slot)| slot)
    };
    html! {
        table.stacks role="table" {
            caption.hide { "Slots" }
            (head(&["Slot", "Key’s hash", "Value"]))
            tbody role="rowgroup" {
                @for (key, value) in slots {
                    tr role="row" {
                        th role="rowheader" scope="row" { @if let Some(slot) = known(key) { (slot) } @else { "–" } }
                        td.mono role="cell" data-label="Key’s hash" { (short(&key.to_string())) }
                        td.mono role="cell" data-label="Value" { (B256::from(*value)) }
                    }
                }
            }
        }
    }
}

fn account_logs(inspected: &Inspected, address: Address) -> Result<Markup, LedgerError> {
    let filter = LogFilter {
        addresses: vec![address],
        ..LogFilter::default()
    };
    let found: Vec<LogView> = match inspected.ledger.logs(&filter, LOGS_SEEN) {
        Ok(found) => found,
        Err(LedgerError::Limit { .. }) => {
            return Ok(
                html! { p.soft { "There are more than " (LOGS_SEEN) ": ask eth_getLogs for some of them." } },
            );
        }
        Err(error) => return Err(error),
    };
    let last = found.iter().rev().take(LOGS).map(|view| &view.log);
    Ok(logs(inspected, last))
}

fn logs<'a>(
    inspected: &Inspected,
    list: impl ExactSizeIterator<Item = &'a alloy_primitives::Log>,
) -> Markup {
    html! {
        @if list.len() == 0 { p.soft { "There are none." } } @else {
            ol.rows {
                @for log in list {
                    li.tight {
                        p { (inspected.link(log.address)) }
                        @match abi::event(log) {
                            Some(event) => (decoded(&event)),
                            None => {
                                dl.facts.small {
                                    @for (place, topic) in log.topics().iter().enumerate() { dt { "Topic " (place) } dd.mono { (topic) } }
                                }
                                (raw("Data", &log.data.data))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn decoded(told: &Decoded) -> Markup {
    html! {
        p { strong { (told.name) } }
        @if !told.values.is_empty() {
            dl.facts.small { @for (name, value) in &told.values { dt { (name) } dd.mono { (value) } } }
        }
    }
}

fn raw(title: &str, bytes: &[u8]) -> Markup {
    html! {
        details {
            summary { (title) ", " (bytes.len()) " bytes" }
            p.mono { (hex::encode_prefixed(bytes)) }
        }
    }
}

/// An amount in coins, without zeros at the end.
fn coins(wei: U256) -> String {
    let written = format_ether(wei);
    let short = written.trim_end_matches('0').trim_end_matches('.');
    if written.contains('.') {
        short.to_owned()
    } else {
        written
    }
}
