Code.require_file("prebuilt.ex", __DIR__)

defmodule Mix.Tasks.Compile.PowRedisCache do
  @moduledoc false
  # Puts the native library into priv/native: a prebuilt one where one is named, else what cargo
  # builds. Nothing is done, and nothing written, while the one that is there is built from the sources.

  use Mix.Task.Compiler

  alias PowRedisCache.NativeLibrary
  alias PowRedisCache.NativeLibrary.{Cargo, Prebuilt}

  @impl true
  def run(_args) do
    status =
      if NativeLibrary.current?() do
        :noop
      else
        setting = Prebuilt.setting()
        NativeLibrary.install(if setting, do: Prebuilt.read(setting), else: Cargo.build())
        :ok
      end

    # priv did not exist yet when Mix linked it into the build folder.
    Mix.Project.build_structure()
    {status, []}
  end

  @impl true
  def manifests, do: NativeLibrary.manifests()

  @impl true
  def clean do
    NativeLibrary.clean()
    Cargo.clean()
  end
end
