// Octets as lines of sixteen: offset, hexadecimal, ASCII. Pure.

export interface HexLine {
  offset: string;
  hex: string;
  text: string;
}

export function hexLines(bytes: Uint8Array, from = 0): HexLine[] {
  const lines: HexLine[] = [];
  for (let i = 0; i < bytes.length; i += 16) {
    const part = bytes.subarray(i, i + 16);
    const pairs = [...part].map((b) => b.toString(16).padStart(2, '0'));
    lines.push({
      offset: (from + i).toString(16).padStart(8, '0'),
      hex: `${pairs.slice(0, 8).join(' ').padEnd(23)}  ${pairs.slice(8).join(' ').padEnd(23)}`,
      text: [...part].map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '·')).join(''),
    });
  }
  return lines;
}
