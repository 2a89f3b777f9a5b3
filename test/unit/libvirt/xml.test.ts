import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  all,
  at,
  attr,
  child,
  children,
  el,
  need,
  needAttr,
  parseXml,
  text,
  toXml,
  XmlError,
} from '../../../src/libvirt/xml.ts';

const GUEST_NS = 'urn:example:guest:1';

test('a description becomes a document; absent attributes and children are left out', () => {
  const disks = ['a', 'b'].map((name) => el('disk', { name, readonly: false, index: 0, shared: true, wwn: undefined }));
  const xml = toXml(
    el('domain', { type: 'qemu' }, el('memory', { unit: 'KiB' }, 32_768n), disks, false, null, el('x')),
  );
  assert.equal(
    xml,
    '<domain type="qemu"><memory unit="KiB">32768</memory>' +
      '<disk name="a" index="0" shared="yes"/><disk name="b" index="0" shared="yes"/><x/></domain>',
  );
});

test('hostile values stay values', () => {
  const evil = `"/><devices>&amp;'\n<!--]]>`;
  const root = parseXml(toXml(el('a', { name: evil }, el('b', null, evil))));
  assert.equal(attr(root, 'name'), evil);
  assert.equal(at(root, 'b')?.textContent, evil);
  assert.equal(children(root).length, 1);
});

test('what XML cannot carry is refused, not dropped', () => {
  for (const value of ['\u0000', 'a\u0007b', '\uD800', '\uFFFE']) {
    assert.throws(() => toXml(el('a', { value })), XmlError);
    assert.throws(() => toXml(el('a', null, value)), XmlError);
  }
  for (const name of ['bad name', '', 'a><b', '1a', 'a:b:c']) {
    assert.throws(() => toXml(el(name)), XmlError, name);
    assert.throws(() => toXml(el('a', { [name]: '1' })), XmlError, name);
  }
  assert.throws(() => toXml(el('v:guest')), /prefix of v:guest is not declared/);
});

test('namespaces: declared once, found by name and namespace, invisible to plain lookups', () => {
  const guest = el('v:guest', { 'xmlns:v': GUEST_NS }, el('v:owner', { 'v:id': 7 }, 'ann'));
  const root = parseXml(toXml(el('domain', null, el('metadata', null, guest), el('owner', null, 'plain'))));
  const found = child(need(root, 'metadata'), 'guest', GUEST_NS);
  assert.ok(found);
  const owner = child(found, 'owner', GUEST_NS);
  assert.ok(owner);
  assert.equal(text(owner), 'ann');
  assert.equal(attr(owner, 'id', GUEST_NS), '7');
  assert.equal(attr(owner, 'id'), undefined);
  assert.equal(child(need(root, 'metadata'), 'guest'), undefined);
  assert.equal(text(root, 'owner'), 'plain');
  const inherited = parseXml(toXml(el('guest', { xmlns: GUEST_NS }, el('owner'))));
  assert.ok(child(inherited, 'owner', GUEST_NS), 'a default namespace reaches the children');
});

test('parsed elements can be put into new documents', () => {
  const source = parseXml('<disk><source file="/a&amp;b"/></disk>');
  assert.equal(toXml(el('devices', null, source)), '<devices><disk><source file="/a&amp;b"/></disk></devices>');
  assert.equal(toXml(need(source, 'source')), '<source file="/a&amp;b"/>');
});

test('paths, text and attributes', () => {
  const root = parseXml('<d><a><b k="1">x</b></a><a><b k="2"> y\n</b><b k=""/></a></d>');
  assert.deepEqual(
    all(root, 'a/b').map((b) => attr(b, 'k')),
    ['1', '2', ''],
  );
  assert.equal(text(root, 'a/b'), 'x');
  assert.equal(text(root, 'a/c'), undefined);
  assert.equal(attr(at(root, 'nothing'), 'k'), undefined);
  assert.throws(() => need(root, 'a/c'), /<d> has no a\/c/);
  assert.throws(() => needAttr(need(root, 'a'), 'k'), /<a> has no attribute k/);
});

test('malformed, hostile and oversized documents are refused', () => {
  const refused: [string, RegExp][] = [
    ['', /malformed/],
    ['<a>', /malformed/],
    ['<a/>junk', /malformed/],
    ['<a/><b/>', /malformed/],
    ['<a><b></a></b>', /malformed/],
    ['<a b=c/>', /malformed/],
    ['<a b="1" b="2"/>', /malformed/],
    ['<x:a/>', /malformed/],
    ['<a>x & y</a>', /ampersand/],
    ['<a b="&x;"/>', /ampersand/],
    ['<a>&#0;</a>', /cannot carry/],
    ['<a>&#x1F;</a>', /cannot carry/],
    ['<a>&#x110000;</a>', /cannot carry/],
    ['<a>\u0001</a>', /cannot carry/],
    ['<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', /DOCTYPE/],
    ['<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', /DOCTYPE/],
    ['<!doctype a><a/>', /DOCTYPE/],
    ['<a><!-- no end</a>', /never closed/],
    ['<a><![CDATA[ no end</a>', /never closed/],
  ];
  for (const [input, expected] of refused) assert.throws(() => parseXml(input), expected, input);
  for (const [input] of refused) assert.throws(() => parseXml(input), XmlError, input);
  assert.throws(() => parseXml('<a>ééé</a>', { maxBytes: 12 }), /larger than 12 bytes/);
  assert.throws(() => parseXml('<pool/>', { root: 'domain' }), /expected <domain>, found <pool>/);
});

test('what is well-formed passes, also where it looks like an attack', () => {
  const root = parseXml('<?xml version="1.0"?>\n<!-- <!DOCTYPE & --><a><![CDATA[<!DOCTYPE & ]]>&#x41;&lt;&#10;</a>\n');
  assert.equal(root.textContent, '<!DOCTYPE & A<\n');
});

test('a hostile document is refused in linear time', () => {
  const started = process.cpuUsage();
  assert.throws(() => parseXml('<!--'.repeat(500_000)), XmlError);
  assert.throws(() => parseXml('&'.repeat(2_000_000)), XmlError);
  const { user } = process.cpuUsage(started);
  assert.ok(user < 2_000_000, `${user} µs of processor time for 4 MB`);
});
