defmodule PowRedisCache.Native do
  @moduledoc false
  # Stubs of the native functions.
  #
  # A function that takes a reference returns {:ok, cancel_handle} and sends {reference, result} to the
  # caller, or returns {:error, {reason, details}} and sends nothing. With :async as the reference, only
  # failures are reported, to the process that started the instance. doctor/4 needs no instance and
  # returns :ok instead of a handle.
  #
  # Those that end in _large run on a dirty scheduler, see PowRedisCache.Call.

  @on_load :load

  @error_key {__MODULE__, :load_error}

  # Returning an error would unload the module. The error is stored instead, and start_link/1 raises it.
  def load do
    path = path()

    case :erlang.load_nif(path, 0) do
      :ok ->
        :persistent_term.erase(@error_key)
        :ok

      # A reload in a running VM is rejected, so that the running code stays loaded.
      {:error, {reason, _text}} when reason in [:upgrade, :reload] ->
        {:error, reason}

      {:error, {reason, text}} ->
        :persistent_term.put(@error_key, {path, reason, text})
        :ok
    end
  rescue
    # :code.priv_dir/1 returns an error if the application has no directory.
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

  def start(_options), do: not_loaded()
  def resolve(_request, _answer), do: not_loaded()
  def stop(_handle), do: not_loaded()
  def info(_instance), do: not_loaded()
  def get(_instance, _reference, _key), do: not_loaded()
  def get_large(_instance, _reference, _key), do: not_loaded()
  def all(_instance, _reference, _pattern), do: not_loaded()
  def all_large(_instance, _reference, _pattern), do: not_loaded()
  def put(_instance, _reference, _records, _ttl), do: not_loaded()
  def put_large(_instance, _reference, _records, _ttl), do: not_loaded()
  def put_new(_instance, _reference, _key, _value, _ttl), do: not_loaded()
  def put_new_large(_instance, _reference, _key, _value, _ttl), do: not_loaded()
  def delete(_instance, _reference, _key), do: not_loaded()
  def delete_large(_instance, _reference, _key), do: not_loaded()
  def ping(_instance, _reference), do: not_loaded()
  def reindex(_instance, _reference, _position, _dry_run), do: not_loaded()
  def prune(_instance, _reference, _position, _dry_run), do: not_loaded()
  def reseal(_instance, _reference, _position, _dry_run), do: not_loaded()
  def doctor(_options, _probes, _count_timeout, _reference), do: not_loaded()
  def built, do: not_loaded()
  def cancel(_instance, _handle), do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:nif_not_loaded)
end
