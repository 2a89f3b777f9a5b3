/**
 * XML for libvirt: documents are described as plain data (`el`), written and read by a real XML library.
 *
 * User input never meets a string template here: names are checked, values are escaped by the serializer,
 * and what XML cannot carry (control characters) is refused instead of being dropped.
 */
import { DOMImplementation, DOMParser, XMLSerializer, type Document, type Element, type Node } from '@xmldom/xmldom';
import { checkXmlText, isXmlChars } from './xml-check.ts';

/** An element of a parsed document. */
export type XmlElement = Element;

/** An element to be written: plain data, so that builders can be compared in tests. */
export interface XmlSpec {
  /** Qualified name; a prefix must be declared by an `xmlns:prefix` attribute here or further out. */
  readonly name: string;
  readonly attrs: Readonly<Record<string, string>>;
  readonly children: readonly (XmlSpec | XmlElement | string)[];
}

/** What may stand as an attribute; `undefined`, `null` and `false` leave the attribute out, `true` writes `yes`. */
export type XmlAttr = string | number | bigint | boolean | null | undefined;

/** What may stand as a child; `undefined`, `null` and `false` are left out, arrays are flattened. */
export type XmlContent =
  | XmlSpec
  | XmlElement
  | string
  | number
  | bigint
  | false
  | null
  | undefined
  | readonly XmlContent[];

/** XML that is malformed, too large, or not the document that was expected. */
export class XmlError extends Error {
  override readonly name = 'XmlError';
}

/** Bound of a document read by `parseXml` where the caller gives none: 4 MiB, libvirt's own bound of a string. */
export const DEFAULT_MAX_XML_BYTES = 4 * 1024 * 1024;

const XMLNS = 'http://www.w3.org/2000/xmlns/';
const XML_NS = 'http://www.w3.org/XML/1998/namespace';
const QNAME = /^[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?$/;
const ELEMENT_NODE = 1;

/**
 * Describes an element: `el('disk', { type: 'file' }, el('source', { file: path }), readonly && el('readonly'))`.
 * The attributes may be left out, children may be nested in arrays.
 */
export function el(name: string, attrs?: Readonly<Record<string, XmlAttr>> | null, ...content: XmlContent[]): XmlSpec {
  const kept: Record<string, string> = {};
  for (const [key, value] of Object.entries(attrs ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    kept[key] = value === true ? 'yes' : String(value);
  }
  return { name, attrs: kept, children: flatten(content) };
}

function flatten(content: readonly XmlContent[]): (XmlSpec | XmlElement | string)[] {
  return content.flatMap((item): (XmlSpec | XmlElement | string)[] => {
    if (item === undefined || item === null || item === false) return [];
    if (typeof item === 'string') return [item];
    if (typeof item === 'number' || typeof item === 'bigint') return [String(item)];
    if (isList(item)) return flatten(item);
    return [item];
  });
}

function isList(item: XmlContent): item is readonly XmlContent[] {
  return Array.isArray(item);
}

function isElement(item: XmlSpec | XmlElement): item is XmlElement {
  return 'nodeType' in item;
}

/**
 * Writes a description or a parsed element as text, without an XML declaration.
 * @throws XmlError for a name that is none, an undeclared prefix, or characters that XML cannot carry.
 */
export function toXml(root: XmlSpec | XmlElement): string {
  const options = { requireWellFormed: true };
  try {
    if (isElement(root)) return new XMLSerializer().serializeToString(root, options);
    const document = new DOMImplementation().createDocument(null, '', null);
    document.appendChild(build(document, root, new Map([['xml', XML_NS]])));
    return new XMLSerializer().serializeToString(document, options);
  } catch (cause) {
    if (cause instanceof XmlError) throw cause;
    throw new XmlError(`cannot write XML: ${messageOf(cause)}`, { cause });
  }
}

type Scope = ReadonlyMap<string, string>;

function build(document: Document, spec: XmlSpec, outer: Scope): Element {
  const scope = declaredIn(spec, outer);
  const element = document.createElementNS(namespaceOf(spec.name, scope, scope.get('') ?? null), spec.name);
  for (const [name, value] of Object.entries(spec.attrs)) {
    checkChars(value, `attribute ${name} of ${spec.name}`);
    const declares = name === 'xmlns' || name.startsWith('xmlns:');
    element.setAttributeNS(declares ? XMLNS : namespaceOf(name, scope, null), name, value);
  }
  for (const child of spec.children) element.appendChild(buildChild(document, child, spec, scope));
  return element;
}

function buildChild(document: Document, child: XmlSpec | XmlElement | string, parent: XmlSpec, scope: Scope): Node {
  if (typeof child === 'string') {
    checkChars(child, `text of ${parent.name}`);
    return document.createTextNode(child);
  }
  return isElement(child) ? document.importNode(child, true) : build(document, child, scope);
}

function declaredIn(spec: XmlSpec, outer: Scope): Scope {
  const declared = Object.entries(spec.attrs).filter(([name]) => name === 'xmlns' || name.startsWith('xmlns:'));
  if (declared.length === 0) return outer;
  return new Map([...outer, ...declared.map(([name, uri]) => [name.slice('xmlns:'.length), uri] as const)]);
}

function namespaceOf(name: string, scope: Scope, unprefixed: string | null): string | null {
  if (!QNAME.test(name)) throw new XmlError(`not an XML name: ${JSON.stringify(name)}`);
  const colon = name.indexOf(':');
  if (colon < 0) return unprefixed;
  const uri = scope.get(name.slice(0, colon));
  if (uri === undefined) throw new XmlError(`the prefix of ${name} is not declared by an xmlns attribute`);
  return uri;
}

function checkChars(value: string, where: string): void {
  if (!isXmlChars(value)) throw new XmlError(`${where} holds a character that XML cannot carry`);
}

/** Limits and expectations of `parseXml`. */
export interface ParseOptions {
  /** Largest accepted size in bytes of UTF-8 (default 4 MiB). */
  readonly maxBytes?: number;
  /** Local name that the root element must have. */
  readonly root?: string;
}

/**
 * Reads a document and returns its root element. Strict: what is not well-formed is refused, and so are
 * DOCTYPE and entities (libvirt never sends them, and they are the way to attack an XML reader).
 * @throws XmlError
 */
export function parseXml(input: string, options: ParseOptions = {}): XmlElement {
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_XML_BYTES;
  if (input.length > maxBytes || Buffer.byteLength(input) > maxBytes) {
    throw new XmlError(`XML document larger than ${maxBytes} bytes`);
  }
  const fault = checkXmlText(input);
  if (fault !== undefined) throw new XmlError(`malformed XML: ${fault}`);
  const root = parseRoot(input);
  if (options.root !== undefined && root.localName !== options.root) {
    throw new XmlError(`expected <${options.root}>, found <${root.nodeName}>`);
  }
  return root;
}

function parseRoot(input: string): Element {
  const onError = (level: string, message: string): never => {
    throw new XmlError(`${level}: ${message}`);
  };
  try {
    const document = new DOMParser({ onError }).parseFromString(input, 'text/xml');
    if (document.documentElement !== null && document.doctype === null) return document.documentElement;
  } catch (cause) {
    throw new XmlError(`malformed XML: ${messageOf(cause)}`, { cause });
  }
  throw new XmlError('malformed XML: no root element, or a DOCTYPE');
}

function messageOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.length > 300 ? `${message.slice(0, 300)}…` : message;
}

/**
 * Child elements with this local name, in order; all child elements where no name is given.
 * @param ns namespace of the children; by default those in no namespace (libvirt's own elements).
 */
export function children(parent: XmlElement, name?: string, ns: string | null = null): XmlElement[] {
  const found: XmlElement[] = [];
  for (let node = parent.firstChild; node !== null; node = node.nextSibling) {
    if (node.nodeType !== ELEMENT_NODE) continue;
    const element = node as Element;
    if (name === undefined || (element.localName === name && (element.namespaceURI ?? null) === ns))
      found.push(element);
  }
  return found;
}

/** First child element with this local name, as `children` finds it. */
export function child(parent: XmlElement, name: string, ns: string | null = null): XmlElement | undefined {
  return children(parent, name, ns)[0];
}

/** All elements at a path of child names: `all(domain, 'devices/disk')`. Elements of other namespaces are passed over. */
export function all(from: XmlElement, path: string): XmlElement[] {
  return path.split('/').reduce((found, name) => found.flatMap((element) => children(element, name)), [from]);
}

/** First element at a path of child names: `at(domain, 'os/type')`. */
export function at(from: XmlElement, path: string): XmlElement | undefined {
  return all(from, path)[0];
}

/** Like `at`, for what must be there. @throws XmlError naming what is missing. */
export function need(from: XmlElement, path: string): XmlElement {
  const found = at(from, path);
  if (found === undefined) throw new XmlError(`<${from.nodeName}> has no ${path}`);
  return found;
}

/** Trimmed text of the element, or of the first element at a path; `undefined` where there is no such element. */
export function text(from: XmlElement, path?: string): string | undefined {
  const element = path === undefined ? from : at(from, path);
  return element === undefined ? undefined : (element.textContent ?? '').trim();
}

/** Value of an attribute; `undefined` where the element or the attribute is missing. */
export function attr(from: XmlElement | undefined, name: string, ns: string | null = null): string | undefined {
  if (from === undefined) return undefined;
  if (ns === null) return from.hasAttribute(name) ? (from.getAttribute(name) ?? undefined) : undefined;
  return from.hasAttributeNS(ns, name) ? (from.getAttributeNS(ns, name) ?? undefined) : undefined;
}

/** Like `attr`, for what must be there. @throws XmlError naming what is missing. */
export function needAttr(from: XmlElement, name: string, ns: string | null = null): string {
  const value = attr(from, name, ns);
  if (value === undefined) throw new XmlError(`<${from.nodeName}> has no attribute ${name}`);
  return value;
}
