defmodule Mix.Tasks.PowRedisCache.Prebuild do
  @shortdoc "Builds the native library for machines without Rust"
  @moduledoc """
  Builds the native library of `pow_redis_cache` for machines without Rust.

      mix pow_redis_cache.prebuild [--output FOLDER] [--target TRIPLE]

  Writes two files, the library and its SHA-256. The name of the library holds the version of the
  package and of the NIF interface, the target, and a digest of the Rust sources; a build with it is
  refused where one of these does not fit.

  A build takes it, and needs no Rust, where the environment or the configuration names it, or the
  folder it is in:

      POW_REDIS_CACHE_PREBUILT=prebuilt mix compile

      config :pow_redis_cache, prebuilt: "prebuilt"

  A relative path starts in the folder of the project that is built, a file or a folder will do, and
  the environment goes before the configuration. A folder may hold libraries for several targets.

  ## Options

    * `--output` - the folder to write to. By default `prebuilt`.
    * `--target` - what to build for, as Rust names it, for example `x86_64-unknown-linux-musl`.
      By default this machine. Another one needs its standard library (`rustup target add`) and a
      linker and C compiler for it.
  """

  use Mix.Task

  alias PowRedisCache.NativeLibrary.Prebuilt

  @impl true
  def run(arguments) do
    {options, rest} = OptionParser.parse!(arguments, strict: [output: :string, target: :string])

    if rest != [] do
      Mix.raise("expected only --output and --target, got: #{Enum.join(rest, " ")}")
    end

    # Where the package is a dependency, Mix may not have loaded what builds it.
    package = Mix.Project.deps_paths()[:pow_redis_cache] || File.cwd!()
    Code.require_file("mix/prebuilt.ex", package)

    file = Prebuilt.make(Keyword.get(options, :output, "prebuilt"), options[:target])
    Mix.shell().info("Made #{file} and #{file}.sha256")
  end
end
