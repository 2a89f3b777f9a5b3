/**
 * What a site file may say, as data: the checker reads it with line numbers, the JSON schema for editors is made from it,
 * and so the two cannot differ.
 */
import { namePattern } from '../../core/model/resource.ts';

interface About {
  /** For people, in the schema. */
  readonly about?: string;
}
export type Shape = About &
  (
    | { readonly is: 'text'; readonly pattern?: string; readonly most?: number; readonly example?: string }
    | { readonly is: 'whole'; readonly least: number; readonly most: number }
    | { readonly is: 'number'; readonly least: number; readonly most: number }
    | { readonly is: 'flag' }
    /** `512M`, `2G` → MiB. */
    | { readonly is: 'size' }
    /** `30s`, `5m` → seconds. */
    | { readonly is: 'duration'; readonly most: number }
    /** `500ms`, `2s` → milliseconds. */
    | { readonly is: 'time'; readonly most: number }
    | { readonly is: 'choice'; readonly of: readonly string[] }
    | { readonly is: 'list'; readonly of: Shape; readonly most: number }
    | { readonly is: 'map'; readonly key: string; readonly keyWord: string; readonly of: Shape; readonly most: number }
    | { readonly is: 'object'; readonly fields: Readonly<Record<string, Shape>>; readonly required?: readonly string[] }
  );

export const sizePattern = '^[0-9]+([.][0-9]+)?[KMGTkmgt]([Ii]?[Bb])?$';
export const durationPattern = '^[0-9]+(s|m|h)?$';
export const timePattern = '^[0-9]+([.][0-9]+)?(ms|s)$';

const labels: Shape = {
  is: 'map',
  key: '^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$',
  keyWord: 'a label key (letters, digits and . _ / -)',
  of: { is: 'text', most: 128 },
  most: 64,
  about: 'All labels it has; others are removed',
};
const name = { is: 'text', pattern: namePattern, most: 63 } as const;
const nameWord = 'a name (lower-case letters, digits and hyphens)';
const address = { is: 'text', most: 64 } as const;
const range = (example: string): Shape => ({
  is: 'object',
  required: ['cidr'],
  fields: {
    cidr: { is: 'text', most: 64, about: 'Subnet', example },
    from: { ...address, about: 'First address for guests' },
    to: { ...address, about: 'Last address for guests' },
    gateway: { ...address, about: 'Default route of the guests; absent: none' },
  },
});
const amounts = (about: string): Shape => ({
  is: 'object',
  about,
  fields: {
    cpus: { is: 'number', least: 0, most: 1e9 },
    memory: { is: 'size' },
    disk: { is: 'size' },
  },
});

const host: Shape = {
  is: 'object',
  about: 'A host that has joined (virga host invite)',
  fields: {
    labels,
    cordoned: { is: 'flag', about: 'Takes no new guests' },
    cordonReason: { is: 'text', most: 500 },
    reserved: amounts('Kept for the host itself'),
    overcommit: {
      is: 'object',
      about: 'Virtual per physical',
      fields: { cpu: { is: 'number', least: 0.1, most: 100 }, memory: { is: 'number', least: 0.1, most: 10 } },
    },
    capacity: amounts('Counts as so much, instead of what it has'),
    fence: {
      is: 'list',
      most: 8,
      about: 'Ways to power it off, in the order in which they are tried',
      of: {
        is: 'object',
        required: ['agent'],
        fields: {
          agent: { is: 'text', pattern: '^fence_[a-z0-9_]{1,60}$', about: 'A fence_* program of the distribution' },
          parameters: {
            is: 'map',
            key: '^[a-zA-Z0-9_-]{1,64}$',
            keyWord: 'the name of a parameter',
            of: { is: 'text', most: 1024 },
            most: 32,
            about: 'Secrets are files on the controller’s machine: NAME_file',
          },
          delay: { is: 'time', most: 600_000, about: 'To wait before it is used' },
        },
      },
    },
  },
};

const settings: Shape = {
  is: 'object',
  about: 'The site as a whole',
  fields: {
    lease: {
      is: 'object',
      about: 'How leases are asked for: a profile by its name, or figures',
      fields: {
        profile: { is: 'choice', of: ['default', 'fast'] },
        length: { is: 'time', most: 10_000, about: 'How long a grant is asked for' },
        bound: { is: 'time', most: 5000, about: 'From the deadline to frozen guests' },
        drift: { is: 'number', least: 0, most: 0.1, about: 'Most that two clocks drift apart, relative' },
      },
    },
    onHostLeave: {
      is: 'choice',
      of: ['stop', 'migrate', 'wait'],
      about: 'What happens to guests of a host that is powered off or rebooted in order',
    },
    lapseGrace: {
      is: 'duration',
      most: 3600,
      about: 'Guests with locks on shared storage are killed so long after the lease lapsed',
    },
  },
};

const network: Shape = {
  is: 'object',
  required: ['mode'],
  fields: {
    mode: { is: 'choice', of: ['bridge', 'nat'], about: 'bridge: an existing one of the hosts; nat: made by Virga' },
    bridge: { is: 'text', pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$', about: 'Name of the interface' },
    ipv4: range('10.77.0.0/24'),
    ipv6: range('fd77::/64'),
    mtu: { is: 'whole', least: 576, most: 65_535 },
    dns: {
      is: 'object',
      fields: {
        servers: { is: 'list', of: { is: 'text', most: 253 }, most: 8 },
        search: { is: 'list', of: { is: 'text', most: 253 }, most: 8 },
      },
    },
    labels,
  },
};

const image: Shape = {
  is: 'object',
  required: ['format'],
  fields: {
    file: { is: 'text', most: 4096, about: 'Path, from the folder of this file' },
    url: { is: 'text', most: 4096, pattern: '^https?://', about: 'Address that the command line fetches it from' },
    format: { is: 'choice', of: ['raw', 'qcow2'], about: 'Of the given bytes; pinned for ever' },
    sha512: { is: 'text', pattern: '^[0-9a-f]{128}$', about: 'Of the given bytes, hexadecimal' },
    description: { is: 'text', most: 500 },
    labels,
  },
};

const guest: Shape = {
  is: 'object',
  required: ['image'],
  fields: {
    image: { is: 'text', most: 63, about: 'Name of an image, here or on the site' },
    count: { is: 'whole', least: 1, most: 1024, about: 'Guests NAME-1 to NAME-N; absent: one guest NAME' },
    cpus: { is: 'whole', least: 1, most: 1024 },
    maxCpus: { is: 'whole', least: 1, most: 1024, about: 'Upper bound for a resize while it runs' },
    memory: { is: 'size' },
    maxMemory: { is: 'size', about: 'Upper bound for a resize while it runs' },
    disk: { is: 'size', about: 'At least the size of the image’s disk; grows only' },
    diskMode: { is: 'choice', of: ['keep', 'fresh'], about: 'fresh: a new disk at each start' },
    networks: { is: 'list', of: { is: 'text', most: 63 }, most: 8, about: 'Names of networks; [] for none' },
    addresses: {
      is: 'map',
      key: '^.{1,63}$',
      keyWord: 'the name of a network',
      of: address,
      most: 8,
      about: 'Fixed address by network; not with count',
    },
    labels,
    userData: { is: 'text', most: 32_768, about: 'For cloud-init' },
    sshKeys: { is: 'list', of: { is: 'text', most: 8192 }, most: 64, about: 'Public keys that may log in' },
    restart: { is: 'choice', of: ['always', 'on-failure', 'never'] },
    host: { is: 'text', most: 63, about: 'Only on this host' },
    ha: { is: 'choice', of: ['on', 'off'], about: 'off: never started elsewhere by itself' },
    priority: { is: 'whole', least: 0, most: 100, about: 'Who is recovered first, higher first; 50 is usual' },
    prefer: { is: 'list', of: { is: 'text', most: 63 }, most: 16, about: 'Hosts that it prefers, best first' },
    failBack: { is: 'flag', about: 'Moves back to a preferred host when that fits again; costs a restart' },
    limits: {
      is: 'object',
      about: 'More within the window and it is given up until "virga guest cleanup"',
      fields: {
        restarts: { is: 'whole', least: 0, most: 31 },
        moves: { is: 'whole', least: 0, most: 31 },
        window: { is: 'duration', most: 30 * 86_400 },
      },
    },
    grace: { is: 'duration', most: 3600, about: 'Between the polite stop and the forced one' },
    firmware: { is: 'choice', of: ['bios', 'uefi'] },
    machineType: { is: 'text', most: 64, pattern: '^[A-Za-z0-9._-]+$' },
    cpuModel: { is: 'text', most: 64, pattern: '^[A-Za-z0-9._-]+$' },
  },
};

const mapOf = (of: Shape, about: string): Shape => ({
  is: 'map',
  key: namePattern,
  keyWord: nameWord,
  of,
  most: 20_000,
  about,
});

export const siteShape: Shape & { readonly is: 'object' } = {
  is: 'object',
  about: 'A Virga site file',
  required: ['site'],
  fields: {
    site: { ...name, about: 'Name of this file: what it creates carries it, and --prune removes only that' },
    settings,
    hosts: mapOf(host, 'Settings of hosts, by name'),
    networks: mapOf(network, 'Networks, by name'),
    images: mapOf(image, 'Images, by name'),
    guests: mapOf(guest, 'Guests, by name'),
  },
};

/** JSON schema (draft 2020-12) for editors. */
export function jsonSchema(): Record<string, unknown> {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Virga site file',
    ...schemaOf(siteShape),
  };
}

function schemaOf(shape: Shape): Record<string, unknown> {
  const about = shape.about === undefined ? {} : { description: shape.about };
  switch (shape.is) {
    case 'text':
      return {
        ...about,
        type: 'string',
        ...(shape.pattern === undefined ? {} : { pattern: shape.pattern }),
        ...(shape.most === undefined ? {} : { maxLength: shape.most }),
        ...(shape.example === undefined ? {} : { examples: [shape.example] }),
      };
    case 'whole':
      return { ...about, type: 'integer', minimum: shape.least, maximum: shape.most };
    case 'number':
      return { ...about, type: 'number', minimum: shape.least, maximum: shape.most };
    case 'flag':
      return { ...about, type: 'boolean' };
    case 'size':
      return { ...about, type: 'string', pattern: sizePattern, examples: ['512M', '2G'] };
    case 'duration':
      return {
        ...about,
        type: ['string', 'integer'],
        pattern: durationPattern,
        minimum: 0,
        maximum: shape.most,
        examples: ['30s'],
      };
    case 'time':
      return { ...about, type: 'string', pattern: timePattern, examples: ['500ms', '2s'] };
    case 'choice':
      return { ...about, type: 'string', enum: [...shape.of] };
    case 'list':
      return { ...about, type: 'array', items: schemaOf(shape.of), maxItems: shape.most };
    case 'map':
      return {
        ...about,
        type: 'object',
        propertyNames: { pattern: shape.key },
        additionalProperties: schemaOf(shape.of),
        maxProperties: shape.most,
      };
    case 'object':
      break;
  }
  return {
    ...about,
    type: 'object',
    properties: Object.fromEntries(Object.entries(shape.fields).map(([key, field]) => [key, schemaOf(field)])),
    ...(shape.required ? { required: [...shape.required] } : {}),
    additionalProperties: false,
  };
}
