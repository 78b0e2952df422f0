/** Files that come with the package: the guests of fixtures/ and their manifest. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export interface ShippedFile {
  /** Absolute path. */
  readonly file: string;
  /** As the manifest names it: `bin/tls-x86_64`. */
  readonly name: string;
  readonly sha256: string;
  readonly size: number;
}

/** Where fixtures/ lies; compiled code is one directory deeper than the sources. */
export function fixturesDirectory(): string {
  const places = ["../fixtures/", "../../fixtures/"].map((place) => fileURLToPath(new URL(place, import.meta.url)));
  return places.find((place) => existsSync(`${place}manifest.json`)) ?? places[0] ?? "";
}

/** What the manifest lists. Throws when it is not there or is damaged. */
export function shippedFiles(): ShippedFile[] {
  const directory = fixturesDirectory();
  const manifest: unknown = JSON.parse(readFileSync(`${directory}manifest.json`, "utf8"));
  if (!isObject(manifest) || !Array.isArray(manifest.files)) throw new TypeError("it lists no files");
  return manifest.files.map((entry: unknown) => {
    if (!isObject(entry)) throw new TypeError("an entry is no object");
    const { path, sha256, size } = entry;
    if (typeof path !== "string" || typeof sha256 !== "string" || typeof size !== "number")
      throw new TypeError("an entry lacks path, sha256 or size");
    return { file: `${directory}${path}`, name: path, sha256, size };
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
