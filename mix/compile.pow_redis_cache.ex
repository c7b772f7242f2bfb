Code.require_file("prebuilt.ex", __DIR__)

defmodule Mix.Tasks.Compile.PowRedisCache do
  @moduledoc false
  # Installs the native library into priv/native: a prebuilt library if one is configured, or else one
  # built by cargo. Does nothing while the installed library matches the sources.

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

    # priv/ may not have existed when Mix linked it into the build folder.
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
