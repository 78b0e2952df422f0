import { describe, expect, test } from "vitest";
import { UserError } from "../../emulator/errors.ts";
import { createProvider, providerInfos, providerNames } from "../../providers/registry.ts";
import { fakePlatform } from "./fake-cpu.ts";

describe("the registry", () => {
  test("makes each provider by its name, and direct is the default", () => {
    expect(providerNames[0]).toBe("direct");
    for (const name of providerNames) expect(createProvider(name, fakePlatform()).name).toBe(name);
  });

  test("says of each what it stands for and whom it serves", () => {
    expect(providerInfos.map((info) => info.name)).toEqual(providerNames);
    for (const info of providerInfos) {
      expect(info.description).toMatch(/^(LiteBox|[a-z]).{10,}[^.]$/);
      expect(info.abis.length * info.shims.length).toBeGreaterThan(0);
    }
  });

  test("an unknown name is the user's error and says which there are", () => {
    const make = (): unknown => createProvider("vax", fakePlatform());
    expect(make).toThrow(UserError);
    expect(make).toThrow('unknown provider "vax": choose one of direct');
  });
});
