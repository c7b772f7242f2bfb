defmodule PowRedisCache.Native do
  @moduledoc false
  # The functions of the native library.
  #
  # Those that take a reference return {:ok, ticket} and send {reference, result} to the caller, or
  # return {:error, {reason, details}} and send nothing. With :async for the reference, only a
  # failure is told, to the process that started the instance. examine/4 needs no instance, and returns
  # :ok in place of the ticket.

  @on_load :load

  @error_key {__MODULE__, :load_error}

  # An error here would unload the module; it is kept instead, and raised when an instance starts.
  def load do
    path = path()

    case :erlang.load_nif(path, 0) do
      :ok ->
        :persistent_term.erase(@error_key)
        :ok

      # The module is being loaded again. Refused, so that the code that runs stays.
      {:error, {reason, _text}} when reason in [:upgrade, :reload] ->
        {:error, reason}

      {:error, {reason, text}} ->
        :persistent_term.put(@error_key, {path, reason, text})
        :ok
    end
  rescue
    # :code.priv_dir/1 answers with an error where the application has no folder.
    ArgumentError ->
      :persistent_term.put(@error_key, {~c"priv/native/pow_redis_nif", :no_folder, ~c""})
      :ok
  end

  @doc false
  def path, do: :filename.join(:code.priv_dir(:pow_redis_cache), ~c"native/pow_redis_nif")

  @doc false
  def load_error do
    with {path, reason, text} <- :persistent_term.get(@error_key, nil) do
      "the native library #{path}.so could not be loaded (#{reason}). #{text}"
    end
  end

  def start(_name, _options), do: not_loaded()
  def answer(_question, _access), do: not_loaded()
  def stop(_handle), do: not_loaded()
  def info(_name), do: not_loaded()
  def get(_name, _reference, _key), do: not_loaded()
  def all(_name, _reference, _pattern), do: not_loaded()
  def put(_name, _reference, _records, _ttl), do: not_loaded()
  def put_many(_name, _reference, _records, _ttl), do: not_loaded()
  def delete(_name, _reference, _key), do: not_loaded()
  def ping(_name, _reference), do: not_loaded()
  def reindex(_name, _reference, _cursor, _dry_run), do: not_loaded()
  def examine(_options, _probes, _counting, _reference), do: not_loaded()
  def built, do: not_loaded()
  def cancel(_name, _ticket), do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:nif_not_loaded)
end
