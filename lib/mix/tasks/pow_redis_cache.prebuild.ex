defmodule Mix.Tasks.PowRedisCache.Prebuild do
  @shortdoc "Builds the native library for machines without Rust"
  @moduledoc """
  Builds the native library of `pow_redis_cache` for machines without Rust.

      mix pow_redis_cache.prebuild [--output FOLDER] [--target TRIPLE]

  Writes two files: the library and its SHA-256 checksum. The file name contains the package version,
  the NIF version, the target, and a digest of the Rust sources. A build rejects the library if one of
  them does not match.

  A build uses the library, and needs no Rust, if the environment or the configuration names the file
  or its folder:

      POW_REDIS_CACHE_PREBUILT=prebuilt mix compile

      config :pow_redis_cache, prebuilt: "prebuilt"

  A relative path is relative to the folder of the project being built. The environment overrides the
  configuration. A folder may contain libraries for several targets.

  ## Options

    * `--output` - the folder to write to. Defaults to `prebuilt`.
    * `--target` - the Rust target triple, for example `x86_64-unknown-linux-musl`. Defaults to this
      machine. Another target needs its standard library (`rustup target add`), a linker and a C
      compiler.
  """

  use Mix.Task

  alias PowRedisCache.NativeLibrary.Prebuilt

  @impl true
  def run(arguments) do
    {options, rest} = OptionParser.parse!(arguments, strict: [output: :string, target: :string])

    if rest != [] do
      Mix.raise("expected only --output and --target, got: #{Enum.join(rest, " ")}")
    end

    # If the package is a dependency, Mix may not have loaded its build code.
    package = Mix.Project.deps_paths()[:pow_redis_cache] || File.cwd!()
    Code.require_file("mix/prebuilt.ex", package)

    file = Prebuilt.make(Keyword.get(options, :output, "prebuilt"), options[:target])
    Mix.shell().info("Wrote #{file} and #{file}.sha256")
  end
end
